"""People with one GPU, who use the command line on a set of synthetic hands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

HANDS = 256
COMMAND_SECONDS = 600.0


class People:
    """Their folder, with the set that they train on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.runs = folder / "runs"
        self.environment = {
            **os.environ,
            "HBSEG_BACKEND": "local",
            "HBSEG_STATE": str(folder / "state"),
            "HBSEG_DATA": str(folder / "data"),
            "HBSEG_RUNS": str(self.runs),
        }
        if not (folder / "data").exists():
            raw = str(folder / "raw")
            self.hbseg("data", "synth", raw, "--hands", str(HANDS), "--test-hands", "16")
            self.hbseg("data", "prepare", raw)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "hbseg_cli.main", *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def hbseg(self, *words: str) -> float:
        """Run a command; return its seconds."""
        begin = time.perf_counter()
        with self.start(*words) as process:
            text, _ = process.communicate(timeout=COMMAND_SECONDS)
        seconds = time.perf_counter() - begin
        print(f"hbseg {' '.join(words)}: {seconds:.1f} s", flush=True)
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode}\n{text[-4000:]}")
        return seconds
