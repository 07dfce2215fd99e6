"""The chain of a run: which tasks it has, and a pipeline that does what is not done yet.

    stage1 -> stage2 -> compile (batch of infer), compile (batch of efficiency)
           -> infer, valid -> efficiency -> report

A task is known once its inputs are done, since its folder may carry a hash of them. The same
functions serve the single verbs, the pipeline on this machine and a runner in a cluster.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from hbseg.attempts import step_of
from hbseg.backend import Backend, JobState, Phase
from hbseg.documents import canonical_digest
from hbseg.errors import Cancelled, ConflictError, NotFoundError, StepFailed
from hbseg.markers import MARKER, Marker, read_marker, sha256_of
from hbseg.placement import Placement
from hbseg.runs import Run, RunClaim
from hbseg.specs import CompileSpec, EfficiencySpec, InferSpec, ReportSpec, TrainSpec
from hbseg.steps import SHORT, TRAINING, Input, Step, Task
from hbseg.store import Store, open_store

MOST_STARTS = 2
"""Starts of one task in one pipeline: a second one where the first belonged to an older spec."""


class ChainBackend(Backend, Protocol):
    """A backend that can keep two pipelines on one run apart, and forget a run."""

    def exclusive(self, run: Run) -> AbstractContextManager[None]:
        """Hold the run while the context is open. Raises ConflictError where another does."""

    def forget(self, run: Run) -> None:
        """Remove what the backend keeps of a run. Raises ConflictError while a task runs."""


@dataclass(frozen=True)
class ChainSpecs:
    """The specs of a whole run."""

    stage1: TrainSpec
    stage2: TrainSpec
    compile: CompileSpec
    """Its batch size is replaced by those of `infer` and `efficiency`."""
    infer: InferSpec
    efficiency: EfficiencySpec
    report: ReportSpec

    def pinned(self, data: Store) -> ChainSpecs:
        """Return the specs with the dataset's current version where none is given.

        Raises:
            NotFoundError: there is no dataset.
        """
        return replace(self, stage1=pinned(self.stage1, data), stage2=pinned(self.stage2, data))


def pinned(spec: TrainSpec, data: Store) -> TrainSpec:
    """Return a training's spec with the dataset's current version where none is given."""
    if spec.dataset.version is not None:
        return spec
    from hbseg.data.dataset import open_version

    block = spec.dataset.model_copy(update={"version": open_version(data, None).version})
    return spec.model_copy(update={"dataset": block})


def stage_task(run: Run, data: Store, spec: TrainSpec) -> Task:
    """Return a training stage; its spec names the dataset's version.

    Raises:
        ConflictError: stage 2 has neither a stage 1 in its run nor `init_from`.
    """
    step = TRAINING[spec.stage - 1]
    inputs = [_dataset(data, spec)]
    if spec.stage == 2:
        inputs.append(Input("checkpoint", _first_weights(run, spec)))
    return Task(step, spec, run.folder.folder(step), step, tuple(inputs))


def _dataset(data: Store, spec: TrainSpec) -> Input:
    return Input("dataset", data.folder(f"versions/{spec.dataset.version}"))


def _first_weights(run: Run, spec: TrainSpec) -> Store:
    if spec.init_from is not None:
        folder = open_store(spec.init_from)
        missing, hint = f"no finished checkpoint in {folder.url}", "correct --ckpt URL"
    else:
        folder = run.folder.folder(Step.STAGE1)
        missing = f"run {run.name} has no finished stage 1 to start stage 2 from"
        hint = f"run: hbseg submit-train --stage 1 --run {run.name}, or give --ckpt URL"
    if not folder.exists(MARKER):
        raise ConflictError(missing, hint)
    return folder


def compile_task(run: Run, data: Store, spec: CompileSpec) -> Task:
    """Return the making of an engine from stage 2, in a folder named by all that decides it.

    Raises:
        ConflictError: stage 2 is not done.
    """
    inputs = (Input("checkpoint", _done(run, Step.STAGE2)), dataset_of(run, data))
    unnamed = Task(Step.COMPILE, spec, run.folder, "engine", inputs)
    prefix = f"engine/{unnamed.identity()[:SHORT]}"
    return replace(unnamed, folder=run.folder.folder(prefix), prefix=prefix)


def infer_task(
    run: Run, data: Store, spec: InferSpec, engine: Task, *, prefix: str | None = None
) -> Task:
    """Return the making of masks with an engine; `prefix` is needed for the mode `images`."""
    prefix = prefix or {"submission": "infer", "valid": "valid"}[spec.mode]
    inputs = (dataset_of(run, data), Input("engine", engine.folder))
    return Task(Step.INFER, spec, run.folder.folder(prefix), prefix, inputs)


def images_prefix(images: Store) -> str:
    """Return the folder in a run for the masks of a folder of pictures.

    It is named by the pictures' names and contents: other pictures are another result.

    Raises:
        NotFoundError: the folder is empty or missing.
    """
    content = [(entry.key, sha256_of(images.get(entry.key))) for entry in images.list()]
    if not content:
        raise NotFoundError(f"no pictures in {images.url}", "correct --images")
    return f"images/{canonical_digest(content)[:SHORT]}"


def find_engine(run: Run, batch_size: int) -> Task:
    """Return the making of the run's latest engine of a batch size, made from its stage 2.

    Raises:
        ConflictError: there is none.
    """
    checkpoint = read_marker(_done(run, Step.STAGE2)).digest
    fitting, others = [], set()
    for key in run.folder.list_folders("engine"):
        folder = run.folder.folder(f"engine/{key}")
        try:
            marker = read_marker(folder)
            card = json.loads(folder.get("engine.json"))
            batch = int(card["batch_size"])
        except (NotFoundError, ValueError, KeyError, TypeError):
            continue
        if marker.inputs.get("checkpoint") != checkpoint:
            continue
        if batch == batch_size:
            fitting.append((marker.finished, key))
        others.add(batch)
    if fitting:
        prefix = f"engine/{max(fitting)[1]}"
        spec = CompileSpec(batch_size=batch_size)
        return Task(Step.COMPILE, spec, run.folder.folder(prefix), prefix)
    wanted = f"run: hbseg submit-compile {run.name} --batch-size-eval {batch_size}"
    if others:
        found = ", ".join(str(batch) for batch in sorted(others))
        raise ConflictError(
            f"engine was compiled for batch size {found}, asked for {batch_size}", wanted
        )
    raise ConflictError(f"run {run.name} has no engine of its stage 2", wanted)


def find_efficiency(run: Run) -> Task:
    """Return the latest finished measurement of the run.

    Raises:
        ConflictError: there is none.
    """
    found = []
    for key in run.folder.list_folders("efficiency"):
        with suppress(NotFoundError):
            marker = read_marker(run.folder.folder(f"efficiency/{key}"))
            found.append((marker.finished, key))
    if not found:
        raise ConflictError(
            f"run {run.name} has no measured efficiency", f"run: hbseg submit-efficiency {run.name}"
        )
    prefix = f"efficiency/{max(found)[1]}"
    return Task(Step.EFFICIENCY, EfficiencySpec(), run.folder.folder(prefix), prefix)


def efficiency_task(run: Run, data: Store, spec: EfficiencySpec, engine: Task) -> Task:
    """Return the measurement of an engine."""
    prefix = f"efficiency/{engine.prefix.rpartition('/')[2]}"
    inputs = (
        Input("engine", engine.folder),
        Input("checkpoint", _done(run, Step.STAGE2)),
        dataset_of(run, data),
    )
    return Task(Step.EFFICIENCY, spec, run.folder.folder(prefix), prefix, inputs)


def report_task(run: Run, data: Store, spec: ReportSpec, efficiency: Task) -> Task:
    """Return the report on all that the run achieved."""
    inputs = (
        dataset_of(run, data),
        *(Input(name, run.folder.folder(name)) for name in ("stage1", "stage2", "valid", "infer")),
        Input("efficiency", efficiency.folder),
    )
    return Task(Step.REPORT, spec, run.folder.folder("report"), "report", inputs)


def dataset_of(run: Run, data: Store) -> Input:
    """Return the dataset version that the run was trained on, as its latest stage says.

    Raises:
        ConflictError: no stage is done.
    """
    return Input("dataset", data.folder(f"versions/{dataset_version(run)}"))


def dataset_version(run: Run) -> str:
    """Return the hash of the dataset version that the run's latest stage was trained on.

    Raises:
        ConflictError: no stage is done.
    """
    for stage in reversed(TRAINING):
        folder = run.folder.folder(stage)
        if folder.exists(MARKER):
            source = f"{folder.url}/spec.yaml"
            version = TrainSpec.from_text(folder.get("spec.yaml"), source=source).dataset.version
            if version is not None:
                return version
    raise ConflictError(
        f"run {run.name} has no finished training stage",
        f"run: hbseg submit-train --stage 1 --run {run.name}",
    )


def _done(run: Run, step: Step) -> Store:
    folder = run.folder.folder(step)
    if not folder.exists(MARKER):
        raise ConflictError(
            f"run {run.name} has no finished {step}",
            f"run: hbseg submit-train --stage {step[-1]} --run {run.name}",
        )
    return folder


def chain(run: Run, data: Store, specs: ChainSpecs) -> Iterator[Task]:
    """Yield the run's tasks in order; each next one may be asked for when the last one is done.

    `specs` must name the dataset's version (see `ChainSpecs.pinned`).

    Raises:
        ConflictError: it was asked for before.
    """
    yield stage_task(run, data, specs.stage1)
    yield stage_task(run, data, specs.stage2)
    batched, single = (
        compile_task(run, data, specs.compile.model_copy(update={"batch_size": batch_size}))
        for batch_size in (specs.infer.batch_size, specs.efficiency.batch_size)
    )
    yield batched
    if single != batched:
        yield single
    yield infer_task(run, data, specs.infer, batched)
    valid = specs.infer.model_copy(update={"mode": "valid", "images": None})
    yield infer_task(run, data, valid, batched)
    measured = efficiency_task(run, data, specs.efficiency, single)
    yield measured
    yield report_task(run, data, specs.report, measured)


def reached(run: Run, data: Store, specs: ChainSpecs) -> Iterator[tuple[Task, bool]]:
    """Yield the run's tasks with whether they are done, up to the first that is not."""
    for task in chain(run, data, specs):
        done = task.is_done()
        yield task, done
        if not done:
            return


class Started(StrEnum):
    """What a submit did."""

    DONE = "done"
    """Nothing: the outputs are there and up to date."""
    RUNNING = "running"
    """Nothing: the task was running already."""
    STARTED = "started"


def submit(
    backend: Backend, run: Run, task: Task, placement: Placement, *, data: Store
) -> tuple[Started, JobState]:
    """Start a task unless it is done or running; what it left at other inputs is out of date.

    Raises:
        ConflictError: an input is not done.
    """
    if task.is_done():
        return Started.DONE, JobState(Phase.SUCCEEDED)
    state = backend.state(run, task.name)
    if state.phase in (Phase.PENDING, Phase.RUNNING):
        return Started.RUNNING, state
    for item in task.inputs:
        if not item.folder.exists(MARKER):
            raise ConflictError(
                f"{task.prefix} of run {run.name} needs {item.name}, and {item.folder.url} is not "
                "finished",
                f"see: hbseg pipeline status {run.name}",
            )
    task.folder.delete(MARKER)
    return Started.STARTED, backend.submit(run, task, placement, data=data.url)


def failure_of(run: Run, task: Task, state: JobState) -> StepFailed | Cancelled:
    """Return the error that says how a task ended otherwise than well."""
    hint = f"see: hbseg logs {run.name} --step {task.step}"
    if state.phase == Phase.CANCELLED:
        return Cancelled(f"{task.prefix} of run {run.name} was cancelled", hint)
    return StepFailed(
        f"{task.prefix} of run {run.name} failed with code {state.exit_code} "
        f"in attempt {state.attempt}: {state.reason}",
        hint,
    )


class Happening(StrEnum):
    """What a pipeline tells of a task."""

    SKIPPED = "skipped"
    STARTED = "started"
    JOINED = "joined"
    """It ran already and is waited for."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Event:
    """One thing that happened in a pipeline."""

    happening: Happening
    task: Task
    seconds: float = 0.0
    """Time since the pipeline came to the task."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Figures of the task's marker, when it is done."""
    reason: str = ""
    """Why it failed."""


def _ignore(event: Event) -> None:
    del event


class Pipeline:
    """Runs a chain on a backend, one task after the other; done ones are skipped."""

    def __init__(
        self,
        backend: ChainBackend,
        run: Run,
        data: Store,
        specs: ChainSpecs,
        *,
        placement: Placement | None = None,
        on_event: Callable[[Event], None] = _ignore,
    ) -> None:
        self._backend = backend
        self._run = run
        self._data = data
        self._specs = specs
        self._placement = placement or Placement()
        self._on_event = on_event

    def run(self) -> list[Task]:
        """Do what is not done yet and return all tasks.

        Raises:
            StepFailed: a task failed; the message has its code, its reason and where its logs are.
            Cancelled: a task was cancelled.
            ConflictError: another pipeline is at work on the run, or the run is somebody else's.
            NotFoundError: there is no dataset.
        """
        self._run.claim(data=self._data.url)
        with self._backend.exclusive(self._run):
            done = []
            for task in chain(self._run, self._data, self._specs.pinned(self._data)):
                self.do(task)
                done.append(task)
            return done

    def do(self, task: Task) -> Marker:
        """Do one task unless it is done, and return its marker. Raises as `run`."""
        began = time.monotonic()
        for starts in range(MOST_STARTS + 1):
            if task.is_done():
                return self._finished(task, began, started=starts > 0)
            if starts == MOST_STARTS:
                break
            outcome, _ = submit(self._backend, self._run, task, self._placement, data=self._data)
            happening = Happening.JOINED if outcome == Started.RUNNING else Happening.STARTED
            self._tell(happening, task, began)
            state = self._backend.wait(self._run, task.name)
            if outcome == Started.STARTED and state.phase != Phase.SUCCEEDED:
                self._tell(Happening.FAILED, task, began, reason=state.reason)
                raise failure_of(self._run, task, state)
            if outcome == Started.STARTED:
                break
        if not task.is_done():
            raise StepFailed(
                f"{task.prefix} of run {self._run.name} ended, but its marker is missing or was "
                "made from other inputs",
                f"run it again; see: hbseg logs {self._run.name} --step {task.step}",
            )
        return self._finished(task, began, started=True)

    def _finished(self, task: Task, began: float, *, started: bool) -> Marker:
        marker = read_marker(task.folder)
        happening = Happening.DONE if started else Happening.SKIPPED
        self._tell(happening, task, began, metrics=marker.metrics)
        return marker

    def _tell(
        self,
        happening: Happening,
        task: Task,
        began: float,
        *,
        metrics: dict[str, float] | None = None,
        reason: str = "",
    ) -> None:
        states = {
            Happening.STARTED: "running",
            Happening.JOINED: "running",
            Happening.FAILED: "failed",
        }
        dice = (metrics or {}).get("dice") if task.step in TRAINING else None
        self._run.summarise(steps={task.prefix: states.get(happening, "done")}, dice=dice)
        self._on_event(
            Event(happening, task, time.monotonic() - began, dict(metrics or {}), reason)
        )


@dataclass(frozen=True)
class TaskStatus:
    """State of one task of a run, as storage and a backend know it."""

    prefix: str
    step: Step
    state: str
    """`done`, the backend's phase, or `waiting` where neither knows of it."""
    attempt: int = 0
    reason: str = ""


def statuses(backend: Backend, run: Run, claim: RunClaim) -> list[TaskStatus]:
    """Return the state of every task that the run has met, in the order of the chain."""
    known = {name: backend.state(run, name) for name in backend.tasks(run)}
    prefixes = {prefix.replace("/", "-"): prefix for prefix in claim.steps}
    for name in known:
        prefixes.setdefault(name, _prefix(name))
    found = [_status(run, prefix, known.get(name)) for name, prefix in prefixes.items()]
    order = list(Step)
    return sorted(found, key=lambda status: (order.index(status.step), status.prefix))


def _status(run: Run, prefix: str, state: JobState | None) -> TaskStatus:
    step = step_of(prefix.replace("/", "-"))
    if state is not None and state.phase in (Phase.PENDING, Phase.RUNNING):
        return TaskStatus(prefix, step, state.phase, state.attempt)
    if run.folder.folder(prefix).exists(MARKER):
        return TaskStatus(prefix, step, "done", 0 if state is None else state.attempt)
    if state is None or state.phase in (Phase.ABSENT, Phase.SUCCEEDED):
        return TaskStatus(prefix, step, "waiting")
    return TaskStatus(prefix, step, state.phase, state.attempt, state.reason)


def _prefix(task_name: str) -> str:
    first, dash, rest = task_name.partition("-")
    return f"{first}/{rest}" if dash else first
