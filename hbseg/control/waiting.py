"""Wait for a task on any backend: for its start within a limit, then for its end."""

from __future__ import annotations

from collections.abc import Callable

from hbseg.errors import NotFinished
from hbseg.runs.backend import Backend, JobState, Phase
from hbseg.runs.run import Run
from hbseg.runs.states import TaskState
from hbseg.runs.task import Task

Tell = Callable[[str], None]
"""Gets a line for a person."""


def say_nothing(text: str) -> None:
    """Drop a line for a person."""
    del text


def ended_state(phase: Phase) -> TaskState:
    """Return the state of a task whose job ended otherwise than well; without a job: cancelled."""
    return TaskState.CANCELLED if phase == Phase.ABSENT else phase.task_state


def wait_for_start(
    backend: Backend,
    run: Run,
    task: Task,
    limit: float,
    *,
    joined: bool = False,
    tell: Tell = say_nothing,
) -> JobState:
    """Return the state when the task is no longer pending; `tell` gets each reason for waiting.

    Raises:
        NotFinished: it was still pending after `limit` seconds. It was cancelled, unless somebody
            else had started it, so that it was `joined`.
    """
    state, told = JobState(Phase.ABSENT), ""
    for state in backend.changes(run, task.name, limit):
        if state.phase != Phase.PENDING:
            return state
        if state.reason and state.reason != told:
            told = state.reason
            tell(told)
    if state.phase != Phase.PENDING:
        return state
    what = f"{task.prefix} of run {run.name} did not start within {limit:g} s"
    if joined:
        raise NotFinished(
            f"{what} and waits on: {state.reason}", f"stop it: hbseg cancel {run.name}"
        )
    backend.cancel(run, task.name)
    raise NotFinished(
        f"{what} and was cancelled: {state.reason}",
        "fix the cause or raise --pending-timeout, then submit again",
    )


def wait_for_end(
    backend: Backend,
    run: Run,
    task: Task,
    limit: float,
    *,
    joined: bool = False,
    tell: Tell = say_nothing,
) -> JobState:
    """Return the state when the task has ended. Raises NotFinished as `wait_for_start`."""
    wait_for_start(backend, run, task, limit, joined=joined, tell=tell)
    return backend.wait(run, task.name)
