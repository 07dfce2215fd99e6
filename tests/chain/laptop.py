"""A place to run the command line in, with a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hbseg.local.s3server import EmbeddedS3
from hbseg.storage.markers import Marker, read_marker
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.small import CHAIN


@dataclass(frozen=True)
class Laptop:
    """A place to run the command line in: a bucket, a state folder, a raw set."""

    environment: dict[str, str]
    data: str
    runs: str
    raw: Path
    config: Path

    def command(self, *words: str) -> list[str]:
        """Return a command line of hbseg."""
        return [sys.executable, "-m", "hbseg_cli", *words]

    def hbseg(
        self, *words: str, code: int = 0, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and check its exit code."""
        done = subprocess.run(
            self.command(*words),
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def pipeline(self, run: str) -> list[str]:
        """Return the words that run the small chain."""
        words = ["pipeline", "run", run, "--raw", str(self.raw), "-j", "1x2"]
        return [*words, "--config", str(self.config)]

    def run_folder(self, run: str) -> Store:
        """Return the folder of a run."""
        return open_store(self.runs).folder(run)

    def marker(self, run: str, prefix: str) -> Marker:
        """Return the marker of a task."""
        return read_marker(self.run_folder(run).folder(prefix))


def laptop_of(server: EmbeddedS3, bucket: str, *, folder: Path, state: Path, raw: Path) -> Laptop:
    """Return a machine whose data and runs lie in a bucket; its home is `folder`."""
    config = folder / "small.yaml"
    config.write_text(CHAIN)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **server.environment,
        "HBSEG_BACKEND": "local",
        "HBSEG_STATE": str(state),
        "HBSEG_DATA": f"s3://{bucket}/data",
        "HBSEG_RUNS": f"s3://{bucket}/runs",
        "HOME": str(folder),
    }
    return Laptop(environment, environment["HBSEG_DATA"], environment["HBSEG_RUNS"], raw, config)


@contextmanager
def keys_of(server: EmbeddedS3) -> Iterator[None]:
    """Let this process find the server, too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield
