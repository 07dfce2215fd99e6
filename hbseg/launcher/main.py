"""The launcher around the executions of a step, here and in a pod; it never loads torch.

For each attempt it takes a number in storage, starts the step (by torchrun where it trains, one
process for each rank), keeps the ranks' logs and copies them to storage, ends a step that stalls,
finds the root cause of a failure, and leaves `exit.json` in the job's folder; after that it only
puts the step's state into the run's summary, where storage answers.

    <job>/logs/<attempt>/<rank>.log       lines as `<time> <text>`; torchrun's own in `torchrun.log`
    <job>/failures/<attempt>/<rank>.json  records of failed ranks, written by the step
    <job>/progress/<attempt>/<rank>.json  heartbeats of the ranks, written by the step
    <job>/torchrun/                       torchrun's own, mode 0700, removed after each attempt
    <job>/exit.json                       how it ended (`hbseg.runs.attempts.AttemptResult`)

On this machine it retries what may pass. In a pod it makes one attempt, leaves the
result as termination message too, and its exit code tells the operator whether to start it again:

    0    done              65 66 70 76 78  the step's own code: trying again does not help
    170  start it again    1               given up: the message has the cause's code
    143  after SIGTERM

SIGTERM is passed on to the step, which has all but 5 s of the grace to leave a checkpoint.
Whatever the launcher started dies with it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hbseg.errors import HbsegError
from hbseg.exit_codes import PERMANENT, StepExit
from hbseg.launcher.execution import (
    MARKER_SECONDS,
    claimed_attempt,
    execute_attempt,
    in_time,
    summarise,
)
from hbseg.launcher.options import GRACE, KEPT_BACK_SECONDS, Launch, options_of
from hbseg.launcher.rank_logs import say
from hbseg.launcher.root_cause import ended
from hbseg.launcher.stop_request import StopRequest, stop_request
from hbseg.launcher.termination import write_termination_message
from hbseg.runs.attempts import Attempt, AttemptResult, record_result
from hbseg.runs.retries import AttemptResults, is_final, series_before, used_up
from hbseg.runs.states import TaskState
from hbseg.storage.files import write_atomically
from hbseg.system.backoff import Backoff

STOP_SECONDS = GRACE - KEPT_BACK_SECONDS
"""From SIGTERM to SIGKILL of a step on this machine."""
FIRST_PAUSE = 1.0
MAX_PAUSE = 30.0
"""Seconds between two attempts, at first and at most; each pause is twice as long as the last."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Launch a step as the command line says, and return its final exit code."""
    options = options_of(arguments)
    if options.claimed and not _is_claimed(options.job):
        return StepExit.TERMINATED
    with stop_request() as stop:
        try:
            launch = options.launch()
        except HbsegError as error:
            say(f"error: {error}")
            return leave(options.job, ended(error.step_exit_code, str(error)), options.in_pod)
        result = _once_or_bug(launch, stop) if launch.in_pod else _until_it_ends(launch, stop)
        code = leave(launch.job, result, launch.in_pod)
        if state := _final_state(launch, result):
            summarise(launch, state)
        return code


def _final_state(launch: Launch, result: AttemptResult) -> TaskState | None:
    """Return the step's state as this node may tell it for all nodes, or none."""
    if not result.final:
        return None
    if result.code not in (StepExit.DONE, StepExit.TERMINATED):
        return TaskState.FAILED
    if result.code == 0 and launch.is_shared:  # whichever node finds all parts there has ended it
        return TaskState.DONE if in_time(launch.is_done, MARKER_SECONDS) else None
    if launch.node != 0:
        return None
    return TaskState.DONE if result.code == 0 else TaskState.CANCELLED


def _until_it_ends(launch: Launch, stop: StopRequest) -> AttemptResult:
    """Run the step until it has succeeded or its attempts are used up."""
    series: list[AttemptResult] = []
    pauses = Backoff(FIRST_PAUSE, MAX_PAUSE)
    while True:
        result = _attempt_here(launch, series, stop)
        if result.code == 0 or stop.is_set:
            return result
        series.append(result)
        say(f"attempt {result.attempt} failed with code {result.code}: {result.reason}")
        if result.final:
            return result
        if _is_stopped(pauses, stop):
            return ended(StepExit.TERMINATED, "cancelled by SIGTERM", result.attempt)


def _attempt_here(
    launch: Launch, series: Sequence[AttemptResult], stop: StopRequest
) -> AttemptResult:
    first = not any(result.attempt for result in series)
    try:
        attempt = claimed_attempt(launch, first=first)
    except HbsegError as error:
        return _unclaimed(launch, error, series)
    return execute_attempt(launch, attempt, series, stop)


def _once_or_bug(launch: Launch, stop: StopRequest) -> AttemptResult:
    """Make one attempt; a bug of the launcher must not leave a pod without a word."""
    try:
        return _once(launch, stop)
    except Exception as error:
        traceback.print_exc()
        return ended(StepExit.BUG, f"bug in the launcher: {type(error).__name__}: {error}")


def _once(launch: Launch, stop: StopRequest) -> AttemptResult:
    """Make one attempt, unless all is done or no attempt is left."""
    if launch.is_done():
        say(f"{launch.prefix} of run {launch.run.name} is done already")
        return ended(0, "")
    claimed = _claimed_with_patience(launch, stop)
    if isinstance(claimed, AttemptResult):
        return claimed
    attempt, before = claimed
    if before and used_up(before, launch.placement.retries):
        return _refused(launch, attempt.number, before)
    result = execute_attempt(launch, attempt, before, stop)
    if result.code != 0:
        say(f"attempt {attempt.number} failed with code {result.code}: {result.reason}")
    return result


def _claimed_with_patience(
    launch: Launch, stop: StopRequest
) -> tuple[Attempt, AttemptResults] | AttemptResult:
    """Return an attempt and how the earlier ones of its series ended, or why there is none.

    Storage that does not answer is waited for as long as a step may wait for its start: no attempt
    has begun, so its outage is none of the step's failures.
    """
    give_up = time.monotonic() + launch.placement.pending_timeout
    pauses = Backoff(FIRST_PAUSE, MAX_PAUSE)
    while True:
        try:
            attempt = claimed_attempt(launch)
            return attempt, series_before(launch.run, launch.step, attempt.number)
        except HbsegError as error:
            missed = ended(error.step_exit_code, str(error))
        say(f"no attempt was begun: {missed.reason}")
        if missed.code != StepExit.TRANSIENT or time.monotonic() >= give_up:
            return missed
        if _is_stopped(pauses, stop):
            return ended(StepExit.TERMINATED, "ended by SIGTERM").model_copy(
                update={"final": False}
            )


def _unclaimed(launch: Launch, error: HbsegError, series: AttemptResults) -> AttemptResult:
    result = ended(error.step_exit_code, str(error))
    final = is_final(result, series, launch.placement.retries)
    return result.model_copy(update={"final": final})


def _refused(launch: Launch, number: int, before: AttemptResults) -> AttemptResult:
    """Return that no attempt is left: the last ones were killed before they could say so."""
    killed = sum(result is None for result in before)
    reason = (
        f"{killed} of the last {len(before)} attempts were killed together with their launcher, "
        "perhaps out of memory"
    )
    result = ended(StepExit.KILLED, reason, number)
    try:
        return record_result(launch.run, launch.step, result)
    except HbsegError as error:
        say(f"warning: the end of attempt {number} is not in storage: {error}")
        return result


def _is_stopped(pauses: Backoff, stop: StopRequest) -> bool:
    """Pause between two attempts; return whether SIGTERM ended the pause."""
    seconds = pauses.next_pause()
    say(f"trying again in {seconds:g} s")
    return stop.wait(seconds)


def leave(job: Path, result: AttemptResult, in_pod: bool) -> int:
    """Write `exit.json` and, in a pod, the termination message; return the exit code."""
    with suppress(OSError, HbsegError):  # on a disk that is full the exit code has to do
        write_atomically(job / "exit.json", result.to_json())
    if not in_pod:
        return result.code
    write_termination_message(result)
    return exit_code_of_pod(result)


def exit_code_of_pod(result: AttemptResult) -> int:
    """Return the exit code that tells an operator whether to start the pod again."""
    if result.code in (StepExit.DONE, StepExit.TERMINATED):
        return result.code
    if not result.final:
        return StepExit.TRANSIENT
    return result.code if result.code in PERMANENT else StepExit.GIVEN_UP


def _is_claimed(job: Path) -> bool:
    """Return whether `job.json` names this process, once its starter has written it or is gone."""
    sys.stdin.buffer.read()
    try:
        claim = json.loads((job / "job.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(claim, dict) and claim.get("pid") == os.getpid()
