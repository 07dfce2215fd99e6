"""A pipeline does what of a run's chain is not done yet, on any backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from hbseg.attempts import step_of, summary_problem
from hbseg.backend import Backend, JobState, Phase
from hbseg.chain import ChainSpecs, chain
from hbseg.errors import (
    Cancelled,
    ConflictError,
    ContractError,
    NotFoundError,
    SpecError,
    StepFailed,
)
from hbseg.markers import MARKER, Marker, read_marker
from hbseg.placement import Placement
from hbseg.rank_logs import say
from hbseg.runs import Run, RunClaim
from hbseg.specs import TrainSpec
from hbseg.steps import TRAINING, Step, Task
from hbseg.store import Store

MOST_STARTS = 2
"""Starts of one task in one pipeline: a second one where the first belonged to an older spec."""


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
        ConflictError: an input is not done, or the task runs with another spec.
    """
    if task.is_done():
        return Started.DONE, JobState(Phase.SUCCEEDED)
    for item in task.inputs:
        if not item.folder.exists(MARKER):
            raise ConflictError(
                f"{task.prefix} of run {run.name} needs {item.name}, and {item.folder.url} is not "
                "finished",
                f"see: hbseg pipeline status {run.name}",
            )
    running = _is_running(backend, run, task)
    state = backend.submit(run, task, placement, data=data.url)
    return Started.RUNNING if running else Started.STARTED, state


def _is_running(backend: Backend, run: Run, task: Task) -> bool:
    return backend.state(run, task.name).phase in (Phase.PENDING, Phase.RUNNING)


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
        backend: Backend,
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
            outcome = self._start(task)
            happening = Happening.JOINED if outcome == Started.RUNNING else Happening.STARTED
            self._tell(happening, task, began, state="running")
            state = self._backend.wait(self._run, task.name)
            if outcome == Started.STARTED and state.phase != Phase.SUCCEEDED:
                self._tell(
                    Happening.FAILED, task, began, state=state.phase.value, reason=state.reason
                )
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

    def _start(self, task: Task) -> Started:
        """Start a task; one that runs already, whatever its spec, is to be waited for first."""
        if _is_running(self._backend, self._run, task):
            return Started.RUNNING
        outcome, _ = submit(self._backend, self._run, task, self._placement, data=self._data)
        return outcome

    def _finished(self, task: Task, began: float, *, started: bool) -> Marker:
        marker = read_marker(task.folder)
        happening = Happening.DONE if started else Happening.SKIPPED
        self._tell(happening, task, began, state="done", metrics=marker.metrics)
        return marker

    def _tell(
        self,
        happening: Happening,
        task: Task,
        began: float,
        *,
        state: str,
        metrics: dict[str, float] | None = None,
        reason: str = "",
    ) -> None:
        dice = (metrics or {}).get("dice") if task.step in TRAINING else None
        if problem := summary_problem(self._run, {task.prefix: state}, lambda: dice):
            say(problem)
        self._on_event(
            Event(happening, task, time.monotonic() - began, dict(metrics or {}), reason)
        )


@dataclass(frozen=True)
class TaskStatus:
    """State of one task of a run, as storage and a backend know it."""

    prefix: str
    step: Step
    state: str
    """`done`, `stale` where it was made from other inputs, the backend's phase, or `waiting`."""
    attempt: int = 0
    reason: str = ""


def statuses(backend: Backend, run: Run, claim: RunClaim) -> list[TaskStatus]:
    """Return the state of every task that the run has met, in the order of the chain.

    Raises:
        UnreachableError: storage does not answer.
    """
    known = {name: backend.state(run, name) for name in backend.tasks(run)}
    prefixes = {prefix.replace("/", "-"): prefix for prefix in claim.steps}
    for name in known:
        prefixes.setdefault(name, _prefix(name))
    results = _Results(run)
    found = [_status(results, prefix, known.get(name)) for name, prefix in prefixes.items()]
    order = list(Step)
    return sorted(found, key=lambda status: (order.index(status.step), status.prefix))


def _status(results: _Results, prefix: str, state: JobState | None) -> TaskStatus:
    step = step_of(prefix.replace("/", "-"))
    if state is not None and state.phase in (Phase.PENDING, Phase.RUNNING):
        return TaskStatus(prefix, step, state.phase, state.attempt)
    if results.marker(prefix) is not None:
        told = "done" if results.is_current(prefix) else "stale"
        return TaskStatus(prefix, step, told, 0 if state is None else state.attempt)
    if state is None or state.phase in (Phase.ABSENT, Phase.SUCCEEDED):
        return TaskStatus(prefix, step, "waiting")
    return TaskStatus(prefix, step, state.phase, state.attempt, state.reason)


class _Results:
    """The markers of a run, each read once, and whether they follow from each other.

    Only inputs in the run itself are looked at: neither the dataset nor a checkpoint that stage 2
    was given by `init_from`.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._markers: dict[str, Marker | None] = {}

    def marker(self, prefix: str) -> Marker | None:
        """Return the marker of a folder; none where it is missing or unreadable."""
        if prefix not in self._markers:
            self._markers[prefix] = None
            with suppress(NotFoundError, ContractError):
                self._markers[prefix] = read_marker(self._run.folder.folder(prefix))
        return self._markers[prefix]

    def is_current(self, prefix: str) -> bool:
        """Return whether a folder was made from what its inputs are now, and these likewise."""
        marker = self.marker(prefix)
        return marker is not None and all(
            any(self._is_made(source, digest) for source in sources)
            for name, digest in marker.inputs.items()
            if (sources := self._sources(prefix, name)) is not None
        )

    def _is_made(self, prefix: str, digest: str) -> bool:
        marker = self.marker(prefix)
        return marker is not None and marker.digest == digest and self.is_current(prefix)

    def _sources(self, prefix: str, name: str) -> list[str] | None:
        """Return the folders that an input may be; none where it is not in the run."""
        if name == "checkpoint":
            if prefix != Step.STAGE2:
                return [Step.STAGE2]
            return None if self._begins_elsewhere() else [Step.STAGE1]
        if name in ("stage1", "stage2", "valid", "infer"):
            return [name]
        if name in ("engine", "efficiency"):
            return [f"{name}/{key}" for key in self._run.folder.list_folders(name)]
        return None

    def _begins_elsewhere(self) -> bool:
        """Return whether stage 2 began with a checkpoint that is not the run's stage 1."""
        folder = self._run.folder.folder(Step.STAGE2)
        try:
            spec = TrainSpec.from_text(folder.get("spec.yaml"), source=f"{folder.url}/spec.yaml")
        except (NotFoundError, SpecError):
            return False
        return spec.init_from is not None


def _prefix(task_name: str) -> str:
    first, dash, rest = task_name.partition("-")
    return f"{first}/{rest}" if dash else first
