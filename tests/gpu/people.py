"""People with one GPU, who use the command line on a set of synthetic hands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

COMMAND_SECONDS = 900.0


class People:
    """Their folder, which must be new, with the set that they train on.

    `settings` are further words of a stage's trainings, by its number.
    """

    def __init__(
        self,
        folder: Path,
        *,
        hands: int = 256,
        settings: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self.settings = folder, settings or {}
        self.runs = folder / "runs"
        self.environment = {
            **os.environ,
            "HBSEG_BACKEND": "local",
            "HBSEG_STATE": str(folder / "state"),
            "HBSEG_DATA": str(folder / "data"),
            "HBSEG_RUNS": str(self.runs),
        }
        raw = str(folder / "raw")
        self.hbseg("data", "synth", raw, "--hands", str(hands), "--test-hands", "16")
        self.hbseg("data", "prepare", raw)

    def train(self, run: str, stage: str, *words: str) -> list[str]:
        """Return the words that train a stage and wait for its end."""
        own = [*words, *self.settings.get(stage, ())]
        return ["submit-train", "--stage", stage, "--run", run, "--wait", *own]

    def command(self, *words: str) -> list[str]:
        """Return a command line of hbseg."""
        return [sys.executable, "-m", "hbseg_cli", *words]

    def hbseg(self, *words: str) -> float:
        """Run a command; return its seconds."""
        begin = time.perf_counter()
        done = subprocess.run(
            self.command(*words),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        seconds = time.perf_counter() - begin
        print(f"hbseg {' '.join(words)}: {seconds:.1f} s", flush=True)
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode}\n{done.stdout[-4000:]}")
        return seconds
