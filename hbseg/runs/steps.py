"""The table of steps: the one place that lists them, and what each of them is.

All else asks it: the chain, the manifests, `status`, `diff`, `render`, `config`, the entry points
and the launcher. A further step is one more row here and the module that the row names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

from hbseg.config.profile import ImageKind
from hbseg.config.specs import (
    CompileSpec,
    EfficiencySpec,
    InferSpec,
    PrepareSpec,
    ReportSpec,
    Spec,
    TrainSpec,
)

SHORT: Final = 12
"""Hexadecimal digits of a digest that make a name."""
IDENTITY: Final = "identity"
"""Key of a folder: a digest of the spec and the inputs."""
PICTURES: Final = "pictures"
"""Key of a folder: a digest of the pictures that the spec names."""


class Folder(NamedTuple):
    """A folder of a run that a step writes to."""

    name: str
    """First part of its path; no `-`, so that a task's name leads back to it."""
    key: str | None = None
    """What names the folder below it: `IDENTITY`, `PICTURES`, or an input, whose own key it is;
    none: there is no folder below."""
    when: Mapping[str, object] = {}
    """Values of the spec with which the step writes here; empty: whatever the spec says."""
    in_chain: bool = True
    """Whether the chain of a run makes it."""


class StepInput(NamedTuple):
    """What a step reads: a folder with a marker."""

    name: str
    """Its role in the step."""
    folder: str | None = None
    """Name of a folder of the run; none: the dataset version, or only what `named_by` names."""
    match: tuple[str, ...] = ()
    """Of an engine: values of the spec that its own must equal; the chain makes one for each."""
    named_by: str | None = None
    """Value of the spec that names another folder instead, by its URL."""
    optional: bool = False
    """Whether the step does without it where it is not there."""
    many: bool = False
    """Whether `named_by` is a list of URLs; each is an input: `name1`, `name2`, ..."""

    def named(self, spec: Spec) -> dict[str, str]:
        """Return the inputs whose folders the spec names, with their URLs."""
        value = getattr(spec, self.named_by) if self.named_by else None
        if self.many:
            return {f"{self.name}{number}": url for number, url in enumerate(value or (), start=1)}
        return {self.name: value} if value else {}


class StepRow(NamedTuple):
    """One row of the table."""

    spec: type[Spec]
    config: str
    """Name of the default config; where there is no such file, the spec's own defaults count."""
    module: str
    """Entry module, started as `python -m`."""
    command: str
    """Arguments of `hbseg` that start it; `{run}` stands for the run's name."""
    folders: tuple[Folder, ...]
    inputs: tuple[StepInput, ...] = ()
    stage: Literal[1, 2] | None = None
    """Number of a training stage."""
    torchrun: bool = False
    """Whether torchrun starts it, one process per GPU; all nodes then fail and restart together."""
    shared: bool = False
    """Whether nodes share its work out, each with an end of its own."""
    repeats: bool = False
    """Whether it starts each time it is asked for: its marker does not know all that it reads, and
    the step itself finds out what is left to do."""
    in_chain: bool = True
    """Whether the chain of a run has it."""
    image: ImageKind = ImageKind.TRAIN
    gpu: bool = False
    """Whether it uses GPUs whatever its engine is; engines have a need of their own
    (`hbseg.runs.engines`)."""


_DATASET: Final = StepInput("dataset")
_WEIGHTS: Final = StepInput("checkpoint", folder="stage2")
_ENGINE: Final = StepInput("engine", folder="engine", match=("batch_size",))


class Step(StrEnum):
    """The steps in the order of the chain; each name stands in labels, flags and prefixes."""

    row: StepRow

    def __new__(cls, name: str, row: StepRow) -> Step:
        """Return the step of a row."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.row = row
        return member

    PREPARE = (
        "prepare",
        StepRow(
            spec=PrepareSpec,
            config="prepare",
            module="hbseg_jobs.prepare",
            command="data prepare s3://BUCKET/RAW --run {run}",
            folders=(Folder("prepare"),),
            repeats=True,
            in_chain=False,
        ),
    )
    STAGE1 = (
        "stage1",
        StepRow(
            spec=TrainSpec,
            config="train_stage1",
            module="hbseg_jobs.train",
            command="submit-train --stage 1 --run {run}",
            folders=(Folder("stage1"),),
            inputs=(_DATASET,),
            stage=1,
            torchrun=True,
            gpu=True,
        ),
    )
    STAGE2 = (
        "stage2",
        StepRow(
            spec=TrainSpec,
            config="train_stage2",
            module="hbseg_jobs.train",
            command="submit-train --stage 2 --run {run}",
            folders=(Folder("stage2"),),
            inputs=(_DATASET, StepInput("checkpoint", folder="stage1", named_by="init_from")),
            stage=2,
            torchrun=True,
            gpu=True,
        ),
    )
    COMPILE = (
        "compile",
        StepRow(
            spec=CompileSpec,
            config="compile",
            module="hbseg_jobs.compile",
            command="submit-compile {run}",
            folders=(Folder("engine", key=IDENTITY),),
            inputs=(_WEIGHTS, _DATASET),
        ),
    )
    INFER = (
        "infer",
        StepRow(
            spec=InferSpec,
            config="infer",
            module="hbseg_jobs.infer",
            command="submit-infer {run}",
            folders=(
                Folder("infer", when={"mode": "submission", "images": None}),
                Folder("valid", when={"mode": "valid", "images": None}),
                Folder("images", key=PICTURES, when={"mode": "images"}, in_chain=False),
            ),
            inputs=(_DATASET, _ENGINE, StepInput("member", named_by="members", many=True)),
            shared=True,
        ),
    )
    EFFICIENCY = (
        "efficiency",
        StepRow(
            spec=EfficiencySpec,
            config="efficiency",
            module="hbseg_jobs.efficiency",
            command="submit-efficiency {run}",
            folders=(Folder("efficiency", key="engine"),),
            inputs=(_ENGINE, _WEIGHTS, _DATASET),
        ),
    )
    REPORT = (
        "report",
        StepRow(
            spec=ReportSpec,
            config="report",
            module="hbseg_jobs.report",
            command="submit-report {run}",
            folders=(Folder("report"),),
            inputs=(
                _DATASET,
                StepInput("stage1", folder="stage1", optional=True),
                StepInput("stage2", folder="stage2", optional=True),
                StepInput("valid", folder="valid", optional=True),
                StepInput("infer", folder="infer", optional=True),
                StepInput("efficiency", folder="efficiency", optional=True),
            ),
        ),
    )

    def folder_for(self, spec: Spec) -> Folder:
        """Return the folder that a spec's results go to."""
        return next(folder for folder in self.row.folders if _has(spec, folder.when))

    def input(self, name: str) -> StepInput | None:
        """Return an input by its role; none where the step has no such."""
        return next((item for item in self.row.inputs if item.name == name), None)

    def start_hint(self, run: str) -> str:
        """Return the hint to run the command that starts the step."""
        return f"run: hbseg {self.row.command.format(run=run)}"


def _has(spec: Spec, values: Mapping[str, object]) -> bool:
    found: dict[str, Any] = dict(spec)
    return all(found[name] == value for name, value in values.items())


TRAINING_STAGES: Final = tuple(step for step in Step if step.row.stage is not None)
ENGINE_FOLDER: Final = Step.COMPILE.row.folders[0].name


def step_named(name: str) -> Step:
    """Return the step of that name. Raises ValueError where there is none."""
    for step in Step:
        if step.value == name:
            return step
    raise ValueError(f"no step {name}")


def stage_step(stage: int) -> Step:
    """Return the step of a training stage."""
    return next(step for step in Step if step.row.stage == stage)


def folders() -> Iterator[tuple[Step, Folder]]:
    """Yield every folder that a run may have, with its step, in the order of the chain."""
    for step in Step:
        for folder in step.row.folders:
            yield step, folder


def maker_of(name: str) -> Step:
    """Return the step that writes to a folder of a run. Raises ValueError where none does."""
    for step, folder in folders():
        if folder.name == name:
            return step
    raise ValueError(f"no step writes to {name}")


def folder_named(name: str) -> Folder:
    """Return a folder of the table. Raises ValueError where there is no such one."""
    for _, folder in folders():
        if folder.name == name:
            return folder
    raise ValueError(f"no step writes to {name}")


class TaskName(NamedTuple):
    """The name of a task: by the folder that it makes in its run."""

    prefix: str
    """Path of the folder, e.g. `stage1` or `engine/0a1b2c3d4e5f`."""

    @classmethod
    def parse(cls, name: str) -> TaskName:
        """Return the task that files, processes and labels call `name`, e.g. `engine-0a1b2c`.

        Raises:
            ValueError: it is no task of a step; the pipeline's runner, for example.
        """
        head, dash, key = name.replace("/", "-", 1).partition("-")
        maker_of(head)
        return cls(f"{head}/{key}" if dash else head)

    @property
    def folder(self) -> str:
        """First part of the path."""
        return self.prefix.partition("/")[0]

    @property
    def key(self) -> str:
        """The rest of the path; empty where there is none."""
        return self.prefix.partition("/")[2]

    @property
    def step(self) -> Step:
        """The step that makes the folder. Raises ValueError where none does."""
        return maker_of(self.folder)

    def __str__(self) -> str:
        """Return the name for files, processes and labels: the prefix with `-` for `/`."""
        return self.prefix.replace("/", "-")


def is_step(task_name: str) -> bool:
    """Return whether a task, by name or prefix, is one of a step; the runner, say, is not."""
    try:
        TaskName.parse(task_name)
    except ValueError:
        return False
    return True


def step_of(task_name: str) -> Step:
    """Return the step of a task, by name or prefix. Raises ValueError where there is none."""
    return TaskName.parse(task_name).step
