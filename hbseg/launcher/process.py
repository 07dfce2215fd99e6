"""The step's process: its output taken, SIGTERM passed on, ended where the launcher says so."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO, cast

from hbseg.launcher.rank_logs import RankLogs
from hbseg.launcher.root_cause import Cause
from hbseg.launcher.stop_request import StopRequest
from hbseg.system.processes import dies_with_parent

LOOK_SECONDS = 1.0
"""Between two looks whether the step must be ended."""
CUT_SECONDS = 5.0
"""From SIGTERM to SIGKILL of a step that the launcher ends: it hangs, so little can be kept."""
KILL_AGAIN_SECONDS = 25.0


def run_process(
    command: Sequence[str],
    environment: Mapping[str, str],
    logs: RankLogs,
    stop: StopRequest,
    *,
    look: Callable[[], Cause | None],
    stop_seconds: float,
) -> tuple[int, Cause | None]:
    """Run the step's command to its end.

    Args:
        command: program and arguments.
        environment: all of the process's.
        logs: takes the output.
        stop: passed on as SIGTERM; after `stop_seconds` SIGKILL follows.
        look: asked every second for a cause to end the step.
        stop_seconds: time for a checkpoint.

    Returns:
        Its code, 128 + n for signal n, and the cause for which it was ended here.
    """
    process = subprocess.Popen(
        dies_with_parent(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
    )
    guard = _Guard(process.pid, stop, look, stop_seconds)
    with selectors.DefaultSelector() as selector, cast(BinaryIO, process.stdout) as output:
        os.set_blocking(output.fileno(), False)
        selector.register(output, selectors.EVENT_READ)
        selector.register(stop.wakeup, selectors.EVENT_READ)
        open_end = True
        while process.poll() is None:
            guard.check()
            for key, _ in selector.select(LOOK_SECONDS):
                if key.fileobj is not output:
                    stop.drain()
                elif open_end and not _feed(output.fileno(), logs):
                    open_end = False
                    selector.unregister(output)
            reap_orphans(process.pid)
        # what the step left in its group ends with it, and no longer holds the pipe open
        _signal_group(process.pid, signal.SIGKILL)
        if open_end:
            _feed(output.fileno(), logs)
    code = process.returncode
    return (128 - code if code < 0 else code), guard.cut


class _Guard:
    """Ends the step's process group: asked for by SIGTERM, or for a cause that was found."""

    def __init__(
        self,
        group: int,
        stop: StopRequest,
        look: Callable[[], Cause | None],
        stop_seconds: float,
    ) -> None:
        self._group, self._stop, self._look, self._stop_seconds = group, stop, look, stop_seconds
        self._kill_at: float | None = None
        self._look_at = time.monotonic() + LOOK_SECONDS
        self.cut: Cause | None = None

    def check(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._kill_at is not None:
            if now >= self._kill_at:
                _signal_group(self._group, signal.SIGKILL)
                self._kill_at = now + KILL_AGAIN_SECONDS
        elif self._stop.is_set:
            self._end(self._stop_seconds)
        elif now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self.cut = self._look()
            if self.cut is not None:
                self._end(CUT_SECONDS)

    def _end(self, grace: float) -> None:
        _signal_group(self._group, signal.SIGTERM)
        self._kill_at = time.monotonic() + grace


def reap_orphans(own: int) -> None:
    """Take the codes of ended processes that nobody else waits for, as process 1 has to.

    In a container the launcher is process 1 and gets every orphan. `own` is its own child, whose
    code stays for who waits for it.
    """
    if os.getpid() != 1:
        return
    reap_all_but(own)


def reap_all_but(own: int) -> None:
    """Reap ended children of this process up to the first that is `own`."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid == own:
            return
        with suppress(ChildProcessError):
            os.waitpid(found.si_pid, os.WNOHANG)


def _feed(descriptor: int, logs: RankLogs) -> bool:
    """Take all that is in the pipe; return false at its end."""
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return True
        if not data:
            return False
        logs.feed(data)


def _signal_group(group: int, signum: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)
