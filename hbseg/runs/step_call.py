"""The command that executes a step: the same for a process here and for a container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hbseg.config.specs import Spec
from hbseg.runs.run import Run
from hbseg.runs.task import Step, Task

MODULES: Mapping[Step, str] = {
    Step.PREPARE: "hbseg_jobs.prepare",
    Step.STAGE1: "hbseg_jobs.train",
    Step.STAGE2: "hbseg_jobs.train",
    Step.COMPILE: "hbseg_jobs.compile",
    Step.INFER: "hbseg_jobs.infer",
    Step.EFFICIENCY: "hbseg_jobs.efficiency",
    Step.REPORT: "hbseg_jobs.report",
}
"""Entry point of each step."""


@dataclass(frozen=True)
class StepCall:
    """One step of one run, as its entry point is told of it: names and URLs, nothing opened."""

    run: str
    """Name of the run."""
    step: Step
    prefix: str
    """The task's folder in the run, e.g. `stage1` or `engine/0a1b2c3d4e5f`."""
    spec: Spec
    runs: str
    """URL of the runs."""
    data: str
    """URL of the datasets."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name of each input: URL of its folder."""
    extra: tuple[str, ...] = ()
    """Further arguments of the step's own."""

    @classmethod
    def of(cls, run: Run, task: Task, *, data: str) -> StepCall:
        """Return the call of a task."""
        return cls(
            run=run.name,
            step=task.step,
            prefix=task.prefix,
            spec=task.spec,
            runs=runs_url(run),
            data=data,
            inputs={item.name: item.folder.url for item in task.inputs},
            extra=task.extra,
        )

    @property
    def task_name(self) -> str:
        """A name for files, processes and objects: the prefix with `-` for `/`."""
        return self.prefix.replace("/", "-")

    def arguments(self, *, spec_file: str, work: str) -> list[str]:
        """Return the arguments of the entry point, without `--attempt`, which the launcher adds."""
        return [
            *("--step", self.step, "--spec", spec_file, "--spec-hash", self.spec.digest()),
            *("--run-name", self.run, "--runs", self.runs, "--data", self.data),
            *("--prefix", self.prefix, "--work", work),
            *(f"--input={name}={url}" for name, url in self.inputs.items()),
            *self.extra,
        ]


def runs_url(run: Run) -> str:
    """Return the URL of the folder of runs that a run lies in."""
    return run.folder.url.removesuffix(f"/{run.name}")
