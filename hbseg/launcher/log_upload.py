"""What storage gets of an attempt while it runs and at its end: logs, progress, result."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from hbseg.errors import HbsegError
from hbseg.launcher.rank_logs import end_of, say
from hbseg.runs.attempts import AttemptResult, attempt_key, log_folder, record_result
from hbseg.runs.progress import Beat, ProgressReport, progress_key, read_heartbeats, report_of
from hbseg.runs.run import Run
from hbseg.runs.steps import Step

LOGS_SECONDS = 30.0
"""Between two copies of the logs."""
PROGRESS_SECONDS = 10.0
"""Between two reports of progress, and between two looks for a newer attempt."""
TICK_SECONDS = 1.0


class LogUpload(threading.Thread):
    """Keeps storage up to date; storage that is down costs a warning, not the step.

    Args:
        run: whose step it is.
        step: the step.
        number: of the attempt.
        logs: folder with the ranks' logs.
        progress: folder with the ranks' heartbeats; none: another node reports the progress.
        stall_timeout: seconds of silence that the report names.
        gang: whether the step ends where another node has begun a newer attempt of it.
    """

    def __init__(
        self,
        run: Run,
        step: Step,
        number: int,
        logs: Path,
        *,
        progress: Path | None = None,
        stall_timeout: float = 0.0,
        gang: bool = False,
    ) -> None:
        super().__init__(name="log-upload", daemon=True)
        self._run, self._step, self._number, self._logs = run, step, number, logs
        self._progress = ProgressNotes(progress, stall_timeout)
        self._gang = gang
        self.is_outdated = False
        """Whether another node has begun a newer attempt: this one will never be whole again."""
        self._done = threading.Event()
        self._result: AttemptResult | None = None
        self._stands: AttemptResult | None = None
        self._sizes: dict[str, int] = {}

    def run(self) -> None:
        """Copy logs every 30 s and progress every 10 s, and all when the attempt has ended."""
        copied = noted = time.monotonic()
        while not self._done.wait(TICK_SECONDS):
            now = time.monotonic()
            if now - noted >= PROGRESS_SECONDS or not self._progress.has_begun:
                self._note_progress()
            if now - noted >= PROGRESS_SECONDS:
                self._look_for_newer()
                noted = now
            if now - copied >= LOGS_SECONDS:
                self._copy()
                copied = time.monotonic()
        if self._result is not None:
            self._record(self._result)
        self._copy()
        self._note_progress()

    def finish(self, result: AttemptResult, limit: float) -> AttemptResult:
        """Write the result and the logs as they are now, within `limit` seconds.

        Returns the result that is in storage then: another node may know the cause.
        """
        self._result = result
        self._done.set()
        self.join(limit)
        if self.is_alive():
            say("storage does not answer: the end of the logs is only here")
        return self._stands or result

    def _record(self, result: AttemptResult) -> None:
        try:
            self._stands = record_result(self._run, self._step, result)
        except HbsegError as error:
            say(f"warning: the end of attempt {self._number} is not in storage: {error}")

    def _note_progress(self) -> None:
        report = self._progress.report()
        if report is not None:
            self._put(progress_key(self._step, self._number), report.to_json())

    def _look_for_newer(self) -> None:
        if not self._gang:
            return
        try:
            newer = self._run.folder.exists(attempt_key(self._step, self._number + 1))
        except HbsegError:
            return  # a storage that is down ends the step, too
        self.is_outdated = self.is_outdated or newer

    def _copy(self) -> None:
        try:
            for path in sorted(self._logs.glob("*.log")):
                if not self._copy_file(path):
                    return
        except OSError as error:
            say(f"warning: a log cannot be read: {error}")

    def _copy_file(self, path: Path) -> bool:
        size = path.stat().st_size
        if self._sizes.get(path.name) == size:
            return True
        if not self._put(f"{log_folder(self._step, self._number)}/{path.name}", end_of(path)):
            return False
        self._sizes[path.name] = size
        return True

    def _put(self, key: str, data: bytes) -> bool:
        try:
            self._run.folder.put(key, data)
        except HbsegError as error:
            say(f"warning: {key} is not in storage: {error}")
            return False
        return True


class ProgressNotes:
    """What the heartbeats of a node's processes report over time."""

    def __init__(self, folder: Path | None, stall_timeout: float) -> None:
        self._folder = folder
        self._stall_timeout = stall_timeout
        self._first: Beat | None = None
        self._told: ProgressReport | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there was a report, or never will be."""
        return self._folder is None or self._told is not None

    def report(self) -> ProgressReport | None:
        """Return the report, if it says something new."""
        beats = [] if self._folder is None else read_heartbeats(self._folder)
        if not beats:
            return None
        slowest = min(beats, key=lambda beat: (beat.done, beat.time))
        if self._first is None or self._starts_over(slowest):
            self._first = slowest
        report = report_of(beats, self._first, stall_timeout=self._stall_timeout)
        if report == self._told:
            return None
        self._told = report
        return report

    def _starts_over(self, beat: Beat) -> bool:
        """Whether the step has gone on to another part of its work, with a rate of its own."""
        told = self._told
        return told is not None and (
            beat.done < told.done or (beat.unit, beat.total) != (told.unit, told.total)
        )
