"""Attempts: every execution of a step takes a number in storage, and leaves logs under it.

Numbers are counted for each step of a run, over all its tasks, so that
`logs/<step>/<attempt>/<rank>.log` and `failures/<step>/<attempt>.json` belong to one execution.
An execution on several nodes is one attempt: whichever node comes first takes the number, the
others join it. It keeps how it ended; of several nodes' results, the most specific one.

    attempts/<step>/<number>.json          the attempt, in the end with its result
    attempts/<step>/<number>/<node>.json   a node's part in it
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from hbseg.documents import Document
from hbseg.errors import HbsegError, NotFoundError, SpecError
from hbseg.exit_codes import StepExit
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.documents import update
from hbseg.system.clock import now


class AttemptResult(Document):
    """How an execution ended: `exit.json` of a job, `failures/<step>/<attempt>.json` of a run.

    A pod's termination message is the same document. What is stored keeps the names that it has
    had from the beginning: `kind: Ending`, `lost_peer`, and `ending` in an attempt.
    """

    kind: Literal["Ending"] = "Ending"
    code: int
    """Exit code of the step; 128 + n for signal n."""
    reason: str = ""
    """Root cause, one line."""
    attempt: int
    finished: str
    """ISO 8601, UTC."""
    rank: int | None = None
    """Process of the training that was the cause, where it is known."""
    final: bool = True
    """Whether no further attempt follows."""
    peer_lost: bool = Field(default=False, alias="lost_peer")
    """Whether only another process was missed: that one's own end tells why."""


class Attempt(Document):
    """`attempts/<step>/<number>.json`: who executes what, from when on, and how it ended."""

    kind: Literal["Attempt"] = "Attempt"
    task: str
    """Name of the task."""
    number: int
    host: str
    """The node that took the number."""
    started: str
    """ISO 8601, UTC."""
    spec_hash: str = ""
    """Digest of the spec that was submitted."""
    first: bool = False
    """Whether the count of retries starts over with this one."""
    rendezvous_id: str = ""
    """Random name under which several nodes meet: who can read the run knows it. Empty in
    attempts of older versions."""
    result: AttemptResult | None = Field(default=None, alias="ending")


class AttemptPart(Document):
    """`attempts/<step>/<number>/<node>.json`: a node that takes part in an attempt."""

    kind: Literal["AttemptPart"] = "AttemptPart"
    node: int
    host: str
    started: str
    """ISO 8601, UTC."""


def claim_attempt(
    run: Run,
    step: Step,
    task_name: str,
    *,
    node: int = 0,
    spec_hash: str = "",
    first: bool = False,
) -> Attempt:
    """Return the attempt that this node takes part in from now on; the first has number 1.

    It joins the task's latest attempt, if that has not ended, has not had this node yet and has an
    id to meet by; else it takes the step's next number by a conditional write, with `first` in any
    case.
    """
    while True:
        numbers = attempt_numbers(run, step)
        latest = None if first else latest_record(run, step, task_name)
        if latest and _is_open(latest, spec_hash) and _joined(run, step, latest.number, node):
            return latest
        number = max(numbers, default=0) + 1
        attempt = Attempt(
            task=task_name,
            number=number,
            host=socket.gethostname(),
            started=now(),
            spec_hash=spec_hash,
            first=first,
            rendezvous_id=secrets.token_hex(16),
        )
        taken = run.folder.put_if_absent(attempt_key(step, number), attempt.to_json())
        if taken and _joined(run, step, number, node):
            return attempt


def _is_open(attempt: Attempt, spec_hash: str) -> bool:
    has_ended = attempt.result is not None
    return not has_ended and attempt.spec_hash == spec_hash and attempt.rendezvous_id != ""


def _joined(run: Run, step: Step, number: int, node: int) -> bool:
    part = AttemptPart(node=node, host=socket.gethostname(), started=now())
    return run.folder.put_if_absent(f"attempts/{step}/{number}/{node}.json", part.to_json())


def latest_record(run: Run, step: Step, task_name: str) -> Attempt | None:
    """Return a task's latest attempt, or none."""
    for number in reversed(attempt_numbers(run, step)):
        attempt = read_attempt(run, step, number)
        if attempt is not None and attempt.task == task_name:
            return attempt
    return None


def latest_attempt(run: Run, step: Step, task_name: str) -> int:
    """Return the number of a task's latest execution; 0 where there was none."""
    latest = latest_record(run, step, task_name)
    return 0 if latest is None else latest.number


def read_attempt(run: Run, step: Step, number: int) -> Attempt | None:
    """Return an attempt; none where it is missing or damaged.

    Raises:
        VersionError: a newer hbseg made it.
    """
    key = attempt_key(step, number)
    try:
        return Attempt.from_text(run.folder.get(key), source=f"{run.folder.url}/{key}")
    except (NotFoundError, SpecError):
        return None


def record_result(run: Run, step: Step, result: AttemptResult) -> AttemptResult:
    """Put how an attempt ended into storage, and return the result that stands there then.

    What another node wrote is replaced only by what tells more: a failure's own cause, then
    SIGTERM, then a lost peer, then success.
    """
    while True:
        stands = _settled(run, step, result)
        if stands.code == 0:
            return stands
        run.folder.put(failure_key(step, result.attempt), stands.to_json())
        attempt = read_attempt(run, step, result.attempt)
        if attempt is None or attempt.result is None or attempt.result == stands:
            return stands
        result = attempt.result  # another node's came in between: the failure must say the same


def _settled(run: Run, step: Step, result: AttemptResult) -> AttemptResult:
    def settled(attempt: Attempt) -> Attempt:
        if attempt.result is not None and _weight(attempt.result) >= _weight(result):
            return attempt
        return attempt.model_copy(update={"result": result})

    try:
        attempt = update(run.folder, attempt_key(step, result.attempt), Attempt, settled)
    except (NotFoundError, SpecError):
        return result  # the run was deleted meanwhile
    return attempt.result or result


def _weight(result: AttemptResult) -> int:
    """Return how much a result tells of the cause."""
    if result.code == 0:
        return 0
    if result.peer_lost:
        return 1
    return 2 if result.code == StepExit.TERMINATED else 3


def attempt_numbers(run: Run, step: Step) -> list[int]:
    """Return the numbers of a step's attempts, ascending."""
    folder = f"attempts/{step}/"
    keys = (entry.key.removeprefix(folder) for entry in run.folder.list(folder))
    return sorted(number for key in keys if (number := _number(key)) > 0)


def attempt_key(step: Step, number: int) -> str:
    """Return the key of an attempt in its run."""
    return f"attempts/{step}/{number}.json"


def log_folder(step: Step, attempt: int) -> str:
    """Return the folder of an execution's logs in its run; a file for each rank."""
    return f"logs/{step}/{attempt}"


def failure_key(step: Step, attempt: int) -> str:
    """Return the key of the record of a failed execution in its run."""
    return f"failures/{step}/{attempt}.json"


def read_failure(run: Run, step: Step, attempt: int) -> AttemptResult | None:
    """Return why an execution failed, where that is known."""
    key = failure_key(step, attempt)
    try:
        return AttemptResult.from_text(run.folder.get(key), source=f"{run.folder.url}/{key}")
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


def _number(name: str) -> int:
    stem = name.removesuffix(".json")
    return int(stem) if stem.isdecimal() and stem.isascii() and len(stem) < 10 else 0
