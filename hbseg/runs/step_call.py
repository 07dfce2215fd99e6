"""The command that executes a step: the same for a process here and for a container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from hbseg.config.specs import Spec
from hbseg.runs.steps import Step, TaskName

if TYPE_CHECKING:
    from hbseg.runs.run import Run
    from hbseg.runs.task import Task


class StepCall(NamedTuple):
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
    inputs: Mapping[str, str] = {}
    """Name of each input: URL of its folder."""
    raw: str | None = None
    """URL of the raw set, for the step prepare."""
    skip_bad: bool = False
    """Whether the step prepare leaves pictures with errors out."""
    engine: str | None = None
    """Kind of the engine that the step makes or runs, where it is known; its pods need it."""

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
            raw=task.raw,
            skip_bad=task.skip_bad,
            engine=task.engine,
        )

    @property
    def task_name(self) -> str:
        """A name for files, processes and objects: the prefix with `-` for `/`."""
        return str(TaskName(self.prefix))

    def folders(self) -> list[str]:
        """Return the URLs of all folders that the step reads or writes."""
        images: str | None = getattr(self.spec, "images", None)
        named = (self.runs, self.data, *self.inputs.values(), self.raw, images)
        return [url for url in named if url is not None]

    def arguments(self, *, spec_file: str, work: str) -> list[str]:
        """Return the arguments of the entry point, without `--attempt`, which the launcher adds."""
        return [
            *("--step", self.step, "--spec", spec_file, "--spec-hash", self.spec.digest()),
            *("--run-name", self.run, "--runs", self.runs, "--data", self.data),
            *("--prefix", self.prefix, "--work", work),
            *(f"--input={name}={url}" for name, url in self.inputs.items()),
            *(() if self.raw is None else ("--raw", self.raw)),
            *(("--skip-bad",) if self.skip_bad else ()),
        ]


def runs_url(run: Run) -> str:
    """Return the URL of the folder of runs that a run is in."""
    return run.folder.url.removesuffix(f"/{run.name}")
