"""One small chain on real pictures and a real S3 server, which several tests look at."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hbseg.local.s3server import EmbeddedS3
from hbseg.markers import Marker, read_marker
from hbseg.store import Store, open_store
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
        return [sys.executable, "-m", "hbseg_cli.main", *words]

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


@pytest.fixture(scope="package")
def laptop(
    s3_server: EmbeddedS3, raw_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Laptop]:
    """A machine with its own bucket and state; the server's keys are in this process too."""
    bucket = f"chain-{uuid.uuid4().hex[:12]}"
    s3_server.create_bucket(bucket)
    folder = tmp_path_factory.mktemp("laptop")
    config = folder / "small.yaml"
    config.write_text(CHAIN)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **s3_server.environment,
        "HBSEG_BACKEND": "local",
        "HBSEG_STATE": str(folder / "state"),
        "HBSEG_DATA": f"s3://{bucket}/data",
        "HBSEG_RUNS": f"s3://{bucket}/runs",
        "HOME": str(folder),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        yield Laptop(
            environment, environment["HBSEG_DATA"], environment["HBSEG_RUNS"], raw_set, config
        )
    s3_server.delete_bucket(bucket)


@pytest.fixture(scope="package")
def calm(laptop: Laptop) -> str:
    """Name of a run whose chain ended without a disturbance."""
    laptop.hbseg(*laptop.pipeline("calm"))
    return "calm"
