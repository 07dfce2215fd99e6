"""Processes of this machine: bound to their parent, told from recycled ids, waited for, ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PARENT_DEATH = Path(__file__).with_name("parent_death.py")


@dataclass(frozen=True)
class ProcessId:
    """A process that no later one with the same number is taken for."""

    pid: int
    birth: float
    """Start: clock ticks since boot on Linux, where no change of the clock moves it; else the
    time in seconds since 1970."""


def dies_with_parent(command: Sequence[str]) -> list[str]:
    """Return `command` so that it dies with the thread that starts it (see `parent_death.py`)."""
    return [sys.executable, "-I", "-S", str(_PARENT_DEATH), str(os.getpid()), *command]


def identified(pid: int) -> ProcessId | None:
    """Return the living process with number `pid`, or none; a zombie lives no more."""
    if sys.platform == "linux":
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            return None
        # proc(5): the third field, after the name, is the state; the 22nd the start
        return None if after_name[0] in "ZX" else ProcessId(pid, float(after_name[19]))
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessId(pid, process.create_time())
    except psutil.Error:
        return None


def is_alive(process: ProcessId) -> bool:
    """Return whether the very same process still runs."""
    return identified(process.pid) == process


def wait_for_end(process: ProcessId, timeout: float | None = None) -> bool:
    """Return whether the process has ended within `timeout` seconds; none waits for ever."""
    descriptor = _pidfd(process.pid)
    if descriptor is None:
        return _wait_by_psutil(process, timeout)
    try:
        if not is_alive(process):
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))
    finally:
        os.close(descriptor)


def _pidfd(pid: int) -> int | None:
    """Return a descriptor of the process; none where it is gone or the system has no such."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def _wait_by_psutil(process: ProcessId, timeout: float | None) -> bool:
    import psutil

    if not is_alive(process):
        return True
    try:
        psutil.Process(process.pid).wait(timeout)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return not is_alive(process)
    return True


def send(process: ProcessId, signum: signal.Signals) -> None:
    """Send a signal to the process, if it is still there."""
    if is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signum)


def stop(process: subprocess.Popen[bytes], grace: float) -> int:
    """End a child: SIGTERM, after `grace` seconds SIGKILL. Return its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            return process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
