"""The protocol of a backend, which runs tasks; the pipeline and the verbs use nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from hbseg.config.placement import Placement
from hbseg.runs.run import Run
from hbseg.runs.states import TaskState
from hbseg.runs.step_call import StepCall
from hbseg.runs.task import Task


class Phase(StrEnum):
    """State of a task's latest execution, as its backend alone sees it.

    A backend does not read storage to find out what was achieved, so it has no word for `done` or
    `stale`. These are the words of `state` in `Submitted` documents.
    """

    ABSENT = "absent"
    """The backend knows nothing of the task."""
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def task_state(self) -> TaskState:
        """The state of the task where storage adds nothing.

        `absent` is `waiting`, and so is `succeeded`: a task without a marker in storage is not
        done, whatever its execution said.
        """
        return _TASK_STATES[self]


_TASK_STATES: Mapping[Phase, TaskState] = {
    Phase.ABSENT: TaskState.WAITING,
    Phase.PENDING: TaskState.PENDING,
    Phase.RUNNING: TaskState.RUNNING,
    Phase.SUCCEEDED: TaskState.WAITING,
    Phase.FAILED: TaskState.FAILED,
    Phase.CANCELLED: TaskState.CANCELLED,
}

ENDED = (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)
ACTIVE = (Phase.PENDING, Phase.RUNNING)


@dataclass(frozen=True)
class JobState:
    """What a backend knows of a task's latest execution."""

    phase: Phase
    attempt: int = 0
    """Number of the execution, from 1; 0 where there was none."""
    exit_code: int | None = None
    """Code of an execution that has ended; 128 + n for signal n. With the phase `running` the step
    has ended, and something beside it has not yet."""
    reason: str = ""
    """Why it is pending, or failed, or what keeps it from ending: one line."""
    is_kept_alive: bool = False
    """Whether it has ended, and something beside it still holds its place, e.g. a sidecar."""


@dataclass(frozen=True)
class RunEvent:
    """Something that happened to a run."""

    time: str
    """Last time it happened: ISO 8601, UTC, to a second."""
    about: str
    """A task, or an object of the cluster, e.g. `Pod/main-stage1-worker-0`."""
    kind: str
    """`Normal` or `Warning`."""
    reason: str
    """One word."""
    message: str
    """One line."""
    count: int = 1
    """Number of times it happened."""


class Backend(Protocol):
    """Runs tasks in one kind of place: as processes of this machine, or as jobs of a cluster."""

    name: str

    @property
    def namespace(self) -> str:
        """Where its tasks run: a namespace of the cluster, or `local`."""

    def dry_run(self, call: StepCall, placement: Placement) -> list[dict[str, Any]]:
        """Return the objects of a step as the server would create them; nothing is created.

        Raises UsageError where there is no server, InvalidInput where the server refuses one.
        """

    def submit(self, run: Run, task: Task, placement: Placement, *, data: str) -> JobState:
        """Start the task unless it already runs, and return its state.

        `data` is the URL of the datasets. A task that failed or was cancelled starts as a new
        attempt and resumes from what the last one left in storage. An old marker is deleted, but
        only when nothing can refuse the start any more. Raises ConflictError where the task runs
        with another spec.
        """

    def state(self, run: Run, task_name: str) -> JobState:
        """Return the state of a task."""

    def snapshot(self, runs: Sequence[Run]) -> Mapping[str, Mapping[str, JobState]]:
        """Return the state of every task that the backend knows, by run name and task name.

        The backend is asked once for all runs, not once a task; each run has an entry. An attempt
        that only storage knows is looked up for running tasks; for ended ones it may be 0.
        """

    def wait(self, run: Run, task_name: str, timeout: float | None = None) -> JobState:
        """Return the state when the task has ended, or its state after `timeout` seconds.

        What keeps an ended task alive is removed: nobody needs what it holds any more.
        """

    def changes(self, run: Run, task_name: str, timeout: float | None = None) -> Iterator[JobState]:
        """Yield the state now and at each change, until the task has ended or `timeout` seconds."""

    def logs(
        self, run: Run, task_name: str, *, rank: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        """Yield log lines of all ranks, or of one, without their line ends."""

    def cancel(self, run: Run, task_name: str) -> bool:
        """Stop a task and wait until it has stopped; return whether it was running.

        A task that has ended and is kept alive is removed in the same way, and was not running.
        """

    def spec_of(self, run: Run, task_name: str) -> Mapping[str, Any] | None:
        """Return the spec that a task was last started with, as a mapping; none if not known."""

    def events(self, run: Run) -> list[RunEvent]:
        """Return what the backend, apart from storage, saw happen to a run, oldest first."""

    def tasks(self, run: Run) -> list[str]:
        """Return the names of the run's tasks that the backend knows, sorted."""

    def exclusive(self, run: Run) -> AbstractContextManager[Callable[[], None]]:
        """Hold the run while the context is open. Raises ConflictError where another does.

        The context gives a check that raises ConflictError once another has taken the run over.
        """

    def forget(self, run: Run) -> None:
        """Remove what the backend keeps of a run. Raises ConflictError while a task runs."""
