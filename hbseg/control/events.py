"""What happened to a run, from storage and from the backend that runs it."""

from __future__ import annotations

from collections.abc import Iterator

from hbseg.exit_codes import StepExit
from hbseg.runs.attempts import (
    Attempt,
    AttemptResult,
    attempt_numbers,
    read_attempt,
    read_failure,
)
from hbseg.runs.backend import Backend, RunEvent
from hbseg.runs.run import Run, RunClaim
from hbseg.runs.steps import Step
from hbseg.system.clock import parse, z_time


def run_events(backend: Backend, run: Run) -> list[RunEvent]:
    """Return what is known to have happened to a run, oldest first.

    Raises:
        NotFoundError: there is no such run.
    """
    claim = run.read()
    found = [*_stored(run, claim), *backend.events(run)]
    return sorted(found, key=lambda event: event.time)


def _stored(run: Run, claim: RunClaim) -> Iterator[RunEvent]:
    yield RunEvent(
        _seconds(claim.created), run.name, "Normal", "Claimed", f"by {claim.owner}, {claim.data}"
    )
    for step in Step:
        for number in attempt_numbers(run, step):
            attempt = read_attempt(run, step, number)
            if attempt is not None:
                yield from _of_attempt(attempt, attempt.result or read_failure(run, step, number))


def _of_attempt(attempt: Attempt, result: AttemptResult | None) -> Iterator[RunEvent]:
    which = f"attempt {attempt.number}"
    yield RunEvent(
        _seconds(attempt.started), attempt.task, "Normal", "Started", f"{which} on {attempt.host}"
    )
    if result is None:
        return
    time = _seconds(result.finished)
    if result.code == 0:
        yield RunEvent(time, attempt.task, "Normal", "Succeeded", which)
        return
    if result.code == StepExit.TERMINATED:
        yield RunEvent(time, attempt.task, "Normal", "Stopped", f"{which}: {result.reason}")
        return
    message = f"{which} failed with code {result.code}: {result.reason}"
    yield RunEvent(time, attempt.task, "Warning", "Failed", message)


def _seconds(time: str) -> str:
    """Return a document's time as events have it: UTC, seconds, `Z`."""
    return z_time(parse(time), "seconds")
