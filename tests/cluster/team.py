"""A team: a namespace, a bucket that its pods reach, a settings file, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from hbseg.runs.run import Run
from hbseg.storage.opening import open_store
from tests.cluster.namespace import TestNamespace

FAKE_STEPS = """
import sys
from hbseg.runs.steps import Step
for step in Step:
    fake = "fake_train" if step.row.torchrun else "fake_step"
    step.row = step.row._replace(module=f"tests.integration.fakes.{fake}")
from hbseg_cli.main import main
main(sys.argv[1:])
"""
"""The command line, with fake steps in the pods that it makes (tests/integration/fakes)."""
COMMAND_SECONDS = 1200.0


@dataclass(frozen=True)
class Team:
    """People of one namespace, as they work."""

    namespace: TestNamespace
    folder: Path
    """Their working folder, with `hbseg.yaml`."""
    environment: dict[str, str]
    url: str
    """Their part of the bucket."""
    profile: dict[str, Any] = field(default_factory=dict)
    fake: bool = False
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    """Commands that may still run."""

    def with_profile(self, **changes: Any) -> Team:
        """Return the team with other values in its cluster profile."""
        changed = replace(self, profile={**self.profile, **changes})
        changed.write_settings()
        return changed

    def write_settings(self) -> None:
        """Write `hbseg.yaml`."""
        settings = {
            "backend": "kubernetes",
            "data": f"{self.url}/data",
            "runs": f"{self.url}/runs",
            "namespace": self.namespace.name,
            "cluster": self.profile,
        }
        (self.folder / "hbseg.yaml").write_text(yaml.safe_dump(settings))

    def faking(self, behaviours: str) -> Team:
        """Return the team with fake steps, which do what `HBSEG_FAKE` says."""
        environment = {**self.profile["environment"], "HBSEG_FAKE": behaviours}
        return replace(self.with_profile(environment=environment), fake=True)

    def command(self, *words: str) -> list[str]:
        """Return a command line of hbseg."""
        if self.fake:
            return [sys.executable, "-c", FAKE_STEPS, *words]
        return [sys.executable, "-m", "hbseg_cli", *words]

    def hbseg(
        self, *words: str, code: int = 0, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and check its exit code."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that the test does not wait for yet."""
        process = subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end_all(self) -> None:
        """End the commands that still run: those of a test that has failed."""
        for process in self.started:
            process.kill()
            with process:  # closes its pipes, and waits for it
                pass

    def api_error(self, code: int, *words: str, **environment: str) -> str:
        """Run a command that must be refused; return its one line."""
        done = self.hbseg(*words, code=code, environment=environment)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, done.stderr
        return lines[0]

    def run(self, name: str) -> Run:
        """Return a run of the team's."""
        return Run(open_store(f"{self.url}/runs"), name)


@contextmanager
def team_of(namespace: TestNamespace, bucket: str, folder: Path) -> Iterator[Team]:
    """Yield a team that works in `folder`, and whose pods reach `bucket`."""
    ground = namespace.ground
    environment = {
        **{n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "HBSEG_", "KUBE"))},
        **ground.s3.environment,
        "KUBECONFIG": str(ground.cluster.kubeconfig),
        "HOME": str(folder),
        "USER": "tester",
    }
    url = f"s3://{bucket}/{namespace.name}"
    team = Team(namespace, folder, environment, url, dict(ground.profile))
    team.write_settings()
    try:
        yield team
    finally:
        team.end_all()
