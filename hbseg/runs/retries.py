"""Which failures are tried again, counted in storage: the same here and in a pod.

A series is the attempts of one task with one spec since the last one that nothing followed, or
that went well. In it
- a code below 128 that a step gives (data, input, contract, spec, bug) ends all at once,
- SIGTERM is no failure: a machine was taken away, or somebody cancelled,
- SIGKILL (usually out of memory) and codes that nobody documented may happen once,
- every other failure as often as `Placement.retries` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from hbseg.errors import NotFoundError
from hbseg.exit_codes import PERMANENT, StepExit
from hbseg.runs.attempts import (
    Attempt,
    AttemptResult,
    attempt_key,
    attempt_numbers,
    latest_record,
    read_attempt,
    record_result,
)
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.documents import update
from hbseg.system.clock import now

AttemptResults = Sequence[AttemptResult | None]
"""How the attempts of a series ended; none: killed together with the launcher."""


def series_before(run: Run, step: Step, number: int) -> list[AttemptResult | None]:
    """Return how the earlier attempts of the series ended that attempt `number` belongs to."""
    this = read_attempt(run, step, number)
    if this is None or this.first:
        return []
    found: list[AttemptResult | None] = []
    for earlier in reversed([n for n in attempt_numbers(run, step) if n < number]):
        attempt = read_attempt(run, step, earlier)
        if attempt is None or attempt.task != this.task:
            continue
        if attempt.spec_hash != this.spec_hash or _ends_series(attempt.result):
            break
        found.append(attempt.result)
        if attempt.first:
            break
    return found[::-1]


def _ends_series(result: AttemptResult | None) -> bool:
    return result is not None and (result.final or result.code == 0)


def is_final(result: AttemptResult, before: AttemptResults, retries: int) -> bool:
    """Return whether nothing follows an attempt that ended so, after those of its series."""
    if result.code == 0 or result.code in PERMANENT:
        return True
    return result.code != StepExit.TERMINATED and used_up([*before, result], retries)


def used_up(series: AttemptResults, retries: int) -> bool:
    """Return whether no further attempt may follow the failures of a series."""
    codes = [StepExit.KILLED if result is None else result.code for result in series]
    failures = [code for code in codes if code not in (StepExit.DONE, StepExit.TERMINATED)]
    unexplained = [code for code in failures if code == StepExit.KILLED or code < 128]
    return len(failures) > retries or len(unexplained) > 1


def end_series(run: Run, step: Step, task_name: str) -> None:
    """Start the count of a task's retries over: for a backend that starts it as a new job."""
    latest = latest_record(run, step, task_name)
    if latest is None or _ends_series(latest.result):
        return
    if latest.result is None:
        reason = "killed, with its launcher"
        result = AttemptResult(
            code=StepExit.KILLED, reason=reason, attempt=latest.number, finished=now()
        )
        record_result(run, step, result)
        return
    with suppress(NotFoundError):  # the run was deleted meanwhile
        update(run.folder, attempt_key(step, latest.number), Attempt, _made_final)


def _made_final(attempt: Attempt) -> Attempt:
    if attempt.result is None:
        return attempt
    result = attempt.result.model_copy(update={"final": True})
    return attempt.model_copy(update={"result": result})
