"""Attempts: every execution of a step takes a number in storage, and leaves logs under it.

Numbers are counted for each step of a run, over all its tasks, so that
`logs/<step>/<attempt>/<rank>.log` and `failures/<step>/<attempt>.json` belong to one execution.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from hbseg.documents import Document
from hbseg.errors import HbsegError, NotFoundError
from hbseg.runs import Run
from hbseg.steps import Step


class Attempt(Document):
    """`attempts/<step>/<number>.json`: who executes what, from when on."""

    kind: Literal["Attempt"] = "Attempt"
    task: str
    """Name of the task."""
    number: int
    host: str
    started: str
    """ISO 8601, UTC."""


class Ending(Document):
    """How an execution ended: `exit.json` of a job, `failures/<step>/<attempt>.json` of a run."""

    kind: Literal["Ending"] = "Ending"
    code: int
    """Exit code of the step; 128 + n for signal n."""
    reason: str = ""
    """Root cause, one line."""
    attempt: int
    finished: str
    """ISO 8601, UTC."""


def step_of(task_name: str) -> Step:
    """Return the step of a task by its name: the folder in the run says it."""
    first = task_name.partition("-")[0]
    named = {"engine": Step.COMPILE, "valid": Step.INFER, "images": Step.INFER}
    return named[first] if first in named else Step(first)


def claim_attempt(run: Run, step: Step, task_name: str) -> int:
    """Take the next number of a step, from 1, by a conditional write, and return it."""
    number = max((_number(key) for key in _claims(run, step)), default=0)
    while True:
        number += 1
        attempt = Attempt(task=task_name, number=number, host=socket.gethostname(), started=now())
        if run.folder.put_if_absent(_claim_key(step, number), attempt.to_json()):
            return number


def latest_attempt(run: Run, step: Step, task_name: str) -> int:
    """Return the number of a task's latest execution; 0 where there was none."""
    for key in sorted(_claims(run, step), key=_number, reverse=True):
        try:
            attempt = Attempt.from_text(run.folder.get(key), source=f"{run.folder.url}/{key}")
        except NotFoundError:
            continue
        if attempt.task == task_name:
            return attempt.number
    return 0


def log_folder(step: Step, attempt: int) -> str:
    """Return the folder of an execution's logs in its run; a file for each rank."""
    return f"logs/{step}/{attempt}"


def failure_key(step: Step, attempt: int) -> str:
    """Return the key of the record of a failed execution in its run."""
    return f"failures/{step}/{attempt}.json"


def read_failure(run: Run, step: Step, attempt: int) -> Ending | None:
    """Return why an execution failed, where that is known."""
    key = failure_key(step, attempt)
    try:
        return Ending.from_text(run.folder.get(key), source=f"{run.folder.url}/{key}")
    except HbsegError:
        return None


def summary_problem(
    run: Run, steps: dict[str, str], dice: Callable[[], float | None] = lambda: None
) -> str | None:
    """Put the state of steps into the run's summary; return a warning where that fails.

    The summary is for listings alone, so storage that is down must not change how a step ends.
    `dice` reads the stage's Dice from storage, where it has one.
    """
    try:
        run.summarise(steps=steps, dice=dice())
    except HbsegError as error:
        return f"warning: the listing of run {run.name} is out of date: {error}"
    return None


def now() -> str:
    """Return the time as documents carry it: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _claim_key(step: Step, number: int) -> str:
    return f"attempts/{step}/{number}.json"


def _claims(run: Run, step: Step) -> list[str]:
    return [entry.key for entry in run.folder.list(f"attempts/{step}/") if _number(entry.key) > 0]


def _number(key: str) -> int:
    stem = key.rpartition("/")[2].removesuffix(".json")
    return int(stem) if stem.isdecimal() and stem.isascii() and len(stem) < 10 else 0
