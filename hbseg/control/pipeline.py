"""A pipeline does what of a run's chain is not done yet, on any backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from hbseg.config.placement import Placement
from hbseg.control.engines import check_chain, check_place
from hbseg.control.waiting import Tell, ended_state, say_nothing, wait_for_end
from hbseg.errors import (
    Cancelled,
    ConflictError,
    HbsegError,
    NotFinished,
    NotFoundError,
    SpecError,
    StepFailed,
    UnreachableError,
)
from hbseg.runs.attempts import summary_problem
from hbseg.runs.backend import ACTIVE, Backend, JobState, Phase
from hbseg.runs.chain import chain, reached
from hbseg.runs.chain_specs import ChainSpecs
from hbseg.runs.run import AT_WORK, Run
from hbseg.runs.states import TaskState
from hbseg.runs.steps import TRAINING_STAGES, Step
from hbseg.runs.task import Task
from hbseg.storage.markers import MARKER, Marker, read_marker
from hbseg.storage.store import Store

MAX_STARTS = 2
"""Starts of one task in one pipeline: a second one where the first belonged to an older spec."""


class Started(StrEnum):
    """What a submit did."""

    DONE = "done"
    """Nothing: the outputs are there and up to date."""
    RUNNING = "running"
    """Nothing: the task was running already."""
    STARTED = "started"


def start_task(
    backend: Backend,
    run: Run,
    task: Task,
    placement: Placement,
    *,
    data: Store,
    again: bool = False,
) -> tuple[Started, JobState]:
    """Start a task unless it is done or running; what it left at other inputs is out of date.

    A task that repeats is started though it is done, and any is with `again`.

    Raises:
        ConflictError: an input is not done, the task runs with another spec, or the run has moved
            to another place.
        SpecError: its engine needs a GPU, and the place has none.
    """
    if task.is_done() and not (task.step.row.repeats or again):
        return Started.DONE, JobState(Phase.SUCCEEDED)
    for item in task.inputs:
        if not item.folder.exists(MARKER):
            raise ConflictError(
                f"{task.prefix} of run {run.name} needs {item.name}, and {item.folder.url} is not "
                "finished",
                f"see: hbseg pipeline status {run.name}",
            )
    check_place(task.step, task.engine, backend.name, placement)
    if _is_running(backend, run, task):
        return Started.RUNNING, backend.submit(run, task, placement, data=data.url)
    before = run.begin(task.prefix, namespace=backend.namespace)
    try:
        return Started.STARTED, backend.submit(run, task, placement, data=data.url)
    except UnreachableError:
        raise  # it may have been started all the same
    except HbsegError:
        if before not in AT_WORK:
            with suppress(HbsegError):  # the error that is raised says more
                run.summarise(steps={task.prefix: before or TaskState.WAITING})
        raise


def _is_running(backend: Backend, run: Run, task: Task) -> bool:
    return backend.state(run, task.name).phase in ACTIVE


def failure_of(run: Run, task: Task, state: JobState) -> StepFailed | Cancelled:
    """Return the error that says how a task ended otherwise than well."""
    hint = f"see: hbseg logs {run.name} --step {task.step}"
    if state.phase == Phase.CANCELLED:
        return Cancelled(f"{task.prefix} of run {run.name} was cancelled", hint)
    if state.phase == Phase.ABSENT:
        return Cancelled(f"{task.prefix} of run {run.name} is gone: its job was deleted", hint)
    code = "" if state.exit_code is None else f" with code {state.exit_code}"
    attempt = f" in attempt {state.attempt}" if state.attempt else ""
    return StepFailed(
        f"{task.prefix} of run {run.name} failed{code}{attempt}: {state.reason}", hint
    )


def unfinished(run: Run, task: Task) -> StepFailed:
    """Return the error that says that a task ended well and is not done all the same."""
    return StepFailed(
        f"{task.prefix} of run {run.name} ended, but its marker is missing or was made from other "
        "inputs",
        f"run it again; see: hbseg logs {run.name} --step {task.step}",
    )


class Happening(StrEnum):
    """What a pipeline tells of a task."""

    SKIPPED = "skipped"
    STARTED = "started"
    JOINED = "joined"
    """It ran already and is waited for."""
    PENDING = "pending"
    """It waits for its start."""
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
    """Why it failed, or waits."""


def _ignore(event: Event) -> None:
    del event


class Pipeline:
    """Runs a chain on a backend, one task after the other; done ones are skipped.

    With `prepare` it begins with that step, which makes the dataset version that is pinned then.
    `on_event` gets what happens to each task, `tell` gets warnings.
    """

    def __init__(
        self,
        backend: Backend,
        run: Run,
        data: Store,
        specs: ChainSpecs,
        *,
        placement: Placement | None = None,
        prepare: Task | None = None,
        on_event: Callable[[Event], None] = _ignore,
        tell: Tell = say_nothing,
    ) -> None:
        self._backend = backend
        self._run = run
        self._data = data
        self._specs = specs
        self._placement = placement or Placement()
        self._prepare = prepare
        self._on_event = on_event
        self._warn = tell

    def run(self) -> list[Task]:
        """Do what is not done yet and return all tasks.

        Raises:
            StepFailed: a task failed; the message has its code, its reason and where its logs are.
            Cancelled: a task was cancelled.
            NotFinished: a task did not start within the placement's `pending_timeout`.
            ConflictError: another pipeline is at work on the run, or the run is somebody else's.
            NotFoundError: there is no dataset.
            SpecError: the place cannot make or run the chain's engine.
        """
        self._check_place()
        self._run.claim(data=self._data.url, namespace=self._backend.namespace)
        with self._backend.exclusive(self._run) as check_held:
            done = []
            if self._prepare is not None:
                self.do(self._prepare)
                done.append(self._prepare)
            for task in chain(self._run, self._data, self._specs.pinned(self._data)):
                check_held()
                self.do(task)
                done.append(task)
            return done

    def _check_place(self) -> None:
        """Refuse a chain of which the place cannot do what is left. Raises SpecError."""
        try:
            check_chain(self._specs, self._backend.name, self._placement)
        except SpecError:
            done = self._done_steps()
            check_chain(self._specs, self._backend.name, self._placement, done=done)

    def _done_steps(self) -> set[Step]:
        """Return the steps that are done; none where the dataset is not known yet."""
        if self._prepare is not None:
            return set()
        try:
            specs = self._specs.pinned(self._data)
        except NotFoundError:
            return set()
        tasks = list(reached(self._run, self._data, specs))
        left = {task.step for task, is_done in tasks if not is_done}
        return {task.step for task, _ in tasks} - left

    def do(self, task: Task) -> Marker:
        """Do one task unless it is done, and return its marker. Raises as `run`."""
        began = time.monotonic()
        for starts in range(MAX_STARTS + 1):
            if task.is_done() and (starts > 0 or not task.step.row.repeats):
                return self._finished(task, began, started=starts > 0)
            if starts == MAX_STARTS:
                break
            outcome = self._start(task)
            happening = Happening.JOINED if outcome == Started.RUNNING else Happening.STARTED
            self._tell(happening, task, began, state=TaskState.RUNNING)
            state = self._wait(task, began, joined=outcome == Started.RUNNING)
            if state.is_kept_alive and state.phase == Phase.SUCCEEDED:
                self._warn(f"warning: {task.prefix}: {state.reason}")
            if outcome == Started.STARTED and state.phase != Phase.SUCCEEDED:
                self._tell(
                    Happening.FAILED,
                    task,
                    began,
                    state=ended_state(state.phase),
                    reason=state.reason,
                )
                raise failure_of(self._run, task, state)
            if outcome == Started.STARTED:
                break
        if not task.is_done():
            raise unfinished(self._run, task)
        return self._finished(task, began, started=True)

    def _start(self, task: Task) -> Started:
        """Start a task; one that runs already, whatever its spec, is to be waited for first."""
        if _is_running(self._backend, self._run, task):
            return Started.RUNNING
        outcome, _ = start_task(self._backend, self._run, task, self._placement, data=self._data)
        return outcome

    def _wait(self, task: Task, began: float, *, joined: bool) -> JobState:
        """Return the state at the task's end; why it waits for its start is told once each."""
        try:
            return wait_for_end(
                self._backend,
                self._run,
                task,
                self._placement.pending_timeout,
                joined=joined,
                tell=lambda reason: self._tell(
                    Happening.PENDING, task, began, state=TaskState.PENDING, reason=reason
                ),
            )
        except NotFinished as error:
            state = TaskState.PENDING if joined else TaskState.CANCELLED
            self._tell(Happening.FAILED, task, began, state=state, reason=error.message)
            raise

    def _finished(self, task: Task, began: float, *, started: bool) -> Marker:
        marker = read_marker(task.folder)
        happening = Happening.DONE if started else Happening.SKIPPED
        self._tell(happening, task, began, state=TaskState.DONE, metrics=marker.metrics)
        return marker

    def _tell(
        self,
        happening: Happening,
        task: Task,
        began: float,
        *,
        state: TaskState,
        metrics: dict[str, float] | None = None,
        reason: str = "",
    ) -> None:
        dice = (metrics or {}).get("dice") if task.step in TRAINING_STAGES else None
        if problem := summary_problem(self._run, {task.prefix: state}, lambda: dice):
            self._warn(problem)
        self._on_event(
            Event(happening, task, time.monotonic() - began, dict(metrics or {}), reason)
        )
