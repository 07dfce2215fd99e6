"""One attempt of a step, from its claim to its result in storage."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from hbseg.errors import HbsegError
from hbseg.exit_codes import StepExit
from hbseg.launcher.log_upload import LogUpload
from hbseg.launcher.options import KEPT_BACK_SECONDS, Launch
from hbseg.launcher.process import run_process
from hbseg.launcher.rank_logs import RankLogs, say
from hbseg.launcher.root_cause import Cause, ended, explained
from hbseg.launcher.stop_request import StopRequest
from hbseg.launcher.termination import write_termination_message
from hbseg.launcher.torchrun import (
    report_file,
    step_command,
    step_environment,
    writable_places,
)
from hbseg.runs.attempts import (
    Attempt,
    AttemptResult,
    claim_attempt,
    read_attempt,
    summary_problem,
)
from hbseg.runs.progress import StallWatch
from hbseg.runs.retries import AttemptResults, is_final
from hbseg.runs.states import TaskState
from hbseg.runs.torchrun_report import read_torchrun_report
from hbseg.storage.markers import read_marker

LAST_UPLOAD_SECONDS = 60.0
LAST_UPLOAD_SECONDS_STOPPED = 4.0
"""Limits of the last copy to storage, after an end and after SIGTERM."""
MARKER_SECONDS = 10.0
MARKER_SECONDS_STOPPED = 1.0
"""Limits of the look whether a step that was cut off had done all."""
ROOT_CAUSE_SECONDS = 20.0
"""Limit of the wait for the word of a node that was lost."""
SUMMARY_SECONDS = 4.0
"""Limit of writing the run's summary, which is for listings alone."""

_T = TypeVar("_T")


def claimed_attempt(launch: Launch, *, first: bool = False) -> Attempt:
    """Return the attempt that this node takes part in; `first`: the count of retries starts over.

    Raises:
        HbsegError: storage does not answer, or does not allow it.
    """
    return claim_attempt(
        launch.run,
        launch.step,
        launch.task,
        node=launch.node,
        spec_hash=launch.spec_hash,
        first=first,
    )


def execute_attempt(
    launch: Launch, attempt: Attempt, before: AttemptResults, stop: StopRequest
) -> AttemptResult:
    """Run the step once, and return how it ended: of all nodes' results the most informative.

    Args:
        launch: the step.
        attempt: as it was claimed.
        before: how the earlier attempts of the series ended.
        stop: SIGTERM of the launcher; call this in the thread that handles it.
    """
    if launch.node == 0:
        summarise(launch, TaskState.RUNNING)
    folders = _Folders(launch.job, attempt.number)
    upload = LogUpload(
        launch.run,
        launch.step,
        attempt.number,
        folders.logs,
        progress=folders.progress if launch.node == 0 else None,
        stall_timeout=launch.placement.stall_timeout,
        gang=launch.is_gang,
    )
    upload.start()
    result = _judged(launch, _executed(launch, attempt, folders, upload, stop), before, stop)
    if result.peer_lost and result.final:
        await_root_cause(launch, attempt.number, stop)
    if launch.in_pod and result.code != 0:
        # a second SIGTERM may cut the upload; the result in storage then replaces this one
        write_termination_message(result)
    stands = upload.finish(
        result, LAST_UPLOAD_SECONDS_STOPPED if stop.is_set else LAST_UPLOAD_SECONDS
    )
    # nodes that share a step out fail each for itself
    return (
        stands
        if launch.is_gang and result.code not in (StepExit.DONE, StepExit.TERMINATED)
        else result
    )


def await_root_cause(launch: Launch, number: int, stop: StopRequest) -> None:
    """Return when the node that was lost has told why, or after `ROOT_CAUSE_SECONDS`.

    Where a lost peer would be the last failure, it matters whether that one was taken away, which
    is none.
    """
    deadline = time.monotonic() + ROOT_CAUSE_SECONDS
    while time.monotonic() < deadline:
        with suppress(HbsegError):
            attempt = read_attempt(launch.run, launch.step, number)
            if attempt is not None and attempt.result is not None and not attempt.result.peer_lost:
                return
        if stop.wait(1.0):
            return


def _executed(
    launch: Launch, attempt: Attempt, folders: _Folders, upload: LogUpload, stop: StopRequest
) -> AttemptResult:
    logs = RankLogs(folders.logs, torchrun=launch.trains, node=launch.node, echo=launch.in_pod)
    try:
        code, cut = run_process(
            _command(launch, attempt.number, folders.torchrun),
            _environment(launch, attempt, folders),
            logs,
            stop,
            look=_look(launch, upload, folders.progress),
            stop_seconds=launch.stop_seconds,
        )
        report = read_torchrun_report(report_file(folders.torchrun))
    finally:
        logs.close()
        shutil.rmtree(folders.torchrun, ignore_errors=True)
    result = explained(code, logs, report, folders.failures, attempt.number, stopped=stop.is_set)
    if cut is None or stop.is_set or result.code == 0:
        return result
    return cut.result(attempt.number)


def _judged(
    launch: Launch, result: AttemptResult, before: AttemptResults, stop: StopRequest
) -> AttemptResult:
    """Return the result with what only the launcher knows: all was done, or nothing follows."""
    if result.code != 0 and (stop.is_set or result.peer_lost):
        limit = MARKER_SECONDS_STOPPED if stop.is_set else MARKER_SECONDS
        if in_time(launch.is_done, limit):
            say(f"attempt {result.attempt} had finished its work when it was stopped")
            return ended(0, "", result.attempt)
    given_up = stop.is_set and not launch.in_pod
    final = given_up or is_final(result, before, launch.placement.retries)
    rank = result.rank if launch.trains or result.rank is None else launch.node
    return result.model_copy(update={"final": final, "rank": rank})


class _Folders:
    """Local folders of an attempt."""

    def __init__(self, job: Path, number: int) -> None:
        self.logs = job / "logs" / str(number)
        self.failures = job / "failures" / str(number)
        self.progress = job / "progress" / str(number)
        self.torchrun = job / "torchrun"
        for folder in (self.torchrun, self.failures, self.progress):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.failures, self.progress):
            folder.mkdir(parents=True, exist_ok=True)
        self.torchrun.mkdir(mode=0o700)  # who can write to it can lead the ranks astray


def _command(launch: Launch, number: int, files: Path) -> list[str]:
    command = step_command(
        launch.step,
        launch.placement,
        module=launch.module,
        arguments=launch.arguments,
        files=files,
    )
    return [*command, "--attempt", str(number)]


def _environment(launch: Launch, attempt: Attempt, folders: _Folders) -> dict[str, str]:
    environment = step_environment(
        launch.step,
        launch.placement,
        failures=folders.failures,
        progress=folders.progress,
        files=folders.torchrun,
        rendezvous_id=attempt.rendezvous_id,
        stop_seconds=launch.stop_seconds - KEPT_BACK_SECONDS,
    )
    if launch.in_pod:
        environment |= writable_places(environment, launch.work)
    return environment


def _look(launch: Launch, upload: LogUpload, progress: Path) -> Callable[[], Cause | None]:
    """Return the question whether the step must be ended, and why."""
    watch = StallWatch(progress, launch.placement.stall_timeout)

    def look() -> Cause | None:
        if upload.is_outdated:
            reason = "another node was lost, and has begun a newer attempt"
            return Cause(StepExit.TRANSIENT, reason, peer_lost=True)
        stall = watch.look()
        if stall is None:
            return None
        return Cause(
            StepExit.TRANSIENT, stall.reason, stall.rank, stall.waiting_for_peers and launch.is_gang
        )

    return look


def summarise(launch: Launch, state: TaskState) -> None:
    """Put the step's state into the run's summary, as far as storage answers in time."""

    def dice() -> float | None:
        if state != TaskState.DONE or not launch.trains:
            return None
        return read_marker(launch.run.folder.folder(launch.prefix)).metrics.get("dice")

    def write() -> bool:
        if problem := summary_problem(launch.run, {launch.prefix: state}, dice):
            say(problem)
        return True

    if not in_time(write, SUMMARY_SECONDS):
        say(f"warning: storage does not answer: the listing may not say that the step is {state}")


def in_time(ask: Callable[[], _T], seconds: float) -> _T | None:
    """Return what `ask` returns, or none where that takes longer than `seconds`."""
    answers: list[_T] = []
    asking = threading.Thread(target=lambda: answers.append(ask()), name="ask", daemon=True)
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else None
