"""A local backend whose steps are fakes, started by the real launcher and the real torchrun."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil
import pytest

from hbseg.config.placement import Placement
from hbseg.config.specs import CompileSpec, DatasetBlock, InferSpec, ModelBlock, Spec, TrainSpec
from hbseg.local.backend import Job, LocalBackend
from hbseg.runs.backend import JobState
from hbseg.runs.chain import chain
from hbseg.runs.chain_specs import ChainSpecs
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
from hbseg.storage.markers import write_marker
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.integration.fakes.fake_chain import MODULES, chain_specs, plant

FAKES = Path(__file__).parent / "fakes"
VERSION = "0123456789abcdef"
STATE_SECONDS = 300.0


def until(holds: Callable[[], bool], what: str) -> None:
    """Return when `holds` does; a state that never comes fails the test."""
    deadline = time.monotonic() + STATE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of living processes that name `folder`."""
    found = []
    for process in psutil.process_iter(["pid", "status", "cmdline"]):
        words = process.info["cmdline"] or []
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if alive and process.info["pid"] != os.getpid() and any(str(folder) in w for w in words):
            found.append(" ".join(words))
    return found


@dataclass
class Local:
    """A run on a local backend with fake steps."""

    folder: Path
    backend: LocalBackend
    run: Run
    data: Store
    monkeypatch: pytest.MonkeyPatch

    def fake(self, **behaviours: list[str]) -> None:
        self.monkeypatch.setenv("HBSEG_FAKE", json.dumps(behaviours))

    def task(self, step: Step = Step.COMPILE, prefix: str | None = None) -> Task:
        prefix = prefix or {Step.COMPILE: "engine/abc"}.get(step, step.value)
        specs: dict[Step, Spec] = {
            Step.STAGE1: TrainSpec(model=ModelBlock(), dataset=DatasetBlock(version=VERSION)),
            Step.STAGE2: TrainSpec(stage=2, dataset=DatasetBlock(version=VERSION)),
            Step.INFER: InferSpec(),
        }
        spec = specs.get(step, CompileSpec())
        return Task(step, spec, self.run.folder.folder(prefix), prefix)

    def plant(self, number: int | None = None) -> None:
        """Leave the chain as if its first steps, or all, had been done."""
        for task in islice(chain(self.run, self.data, self.specs()), number):
            plant(self.run, self.data, task, self.folder / "work")

    def submit(self, task: Task, processes: int = 1, retries: int = 2) -> JobState:
        placement = Placement(processes_per_node=processes, retries=retries)
        return self.backend.submit(self.run, task, placement, data=self.data.url)

    def wait(self, task: Task) -> JobState:
        return self.backend.wait(self.run, task.name, STATE_SECONDS)

    def until_log(self, task: Task, text: str, times: int = 1) -> None:
        """Return when `text` stood in the log so often."""
        lines = self.backend.logs(self.run, task.name, follow=True)
        for line in lines:
            times -= text in line
            if not times:
                return
        raise AssertionError(
            f"{text!r} is not in the log: {self.backend.state(self.run, task.name)}"
        )

    def job_folder(self, task: Task) -> Path:
        return self.backend.folder(self.run) / task.name

    def launcher(self, task: Task) -> int:
        content = (self.job_folder(task) / "job.json").read_bytes()
        return Job.from_text(content, source="job.json").pid

    def specs(self) -> ChainSpecs:
        return chain_specs(VERSION)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    monkeypatch.setenv("PYTHONPATH", str(FAKES.parents[2]))
    monkeypatch.setenv("HBSEG_STATE", str(tmp_path / "state 손"))
    data = open_store(tmp_path / "data")
    write_marker(
        data.folder(f"versions/{VERSION}"), step="prepare", spec_hash="x", inputs={}, outputs={}
    )
    run = Run(open_store(tmp_path / "runs"), "first")
    run.claim(data=data.url)
    yield Local(tmp_path, LocalBackend(modules=MODULES), run, data, monkeypatch)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in word for word in process.info["cmdline"] or []):
            with suppress(ProcessLookupError):  # it ends by itself just now
                os.kill(process.pid, signal.SIGKILL)
