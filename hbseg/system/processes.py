"""Processes of this machine: end with their parent, tell recycled ids apart, wait, stop.

Why not psutil on Linux: docs/decisions.md.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PARENT_DEATH = Path(__file__).with_name("parent_death.py")


POLL_SECONDS = 0.05
"""Between two looks at a process where the system has no descriptors of processes (pidfd)."""


@dataclass(frozen=True)
class ProcessId:
    """A process, told from any later one that gets the same number."""

    pid: int
    birth: float
    """Its start: on Linux in clock ticks since boot, which no change of the clock moves; elsewhere
    in seconds since 1970."""


def dies_with_parent(command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` until the starting thread ends (`parent_death.py`)."""
    return [sys.executable, "-I", "-S", str(_PARENT_DEATH), str(os.getpid()), *command]


def identified(pid: int) -> ProcessId | None:
    """Return the living process with number `pid`; None if there is none, or only a zombie."""
    if sys.platform != "linux":
        return _identified_by_psutil(pid)
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    # proc(5): the third field, after the name, is the state; the 22nd the start
    return None if after_name[0] in "ZX" else ProcessId(pid, float(after_name[19]))


def _identified_by_psutil(pid: int) -> ProcessId | None:
    import psutil

    try:
        process = psutil.Process(pid)
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return None if zombie else ProcessId(pid, process.create_time())
    except psutil.Error:
        return None


def is_alive(process: ProcessId) -> bool:
    """Return whether that very process still runs."""
    return identified(process.pid) == process


def wait_for_end(process: ProcessId, timeout: float | None = None) -> bool:
    """Return whether the process ends within `timeout` seconds; None waits without a limit.

    It need not be a child; a zombie has ended, whether its parent takes note of it or not.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    except (OSError, AttributeError):  # Linux before 5.3, macOS
        return _poll_for_end(process, timeout)
    try:
        if not is_alive(process):
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))
    finally:
        os.close(descriptor)


def _poll_for_end(process: ProcessId, timeout: float | None) -> bool:
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while is_alive(process):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(POLL_SECONDS, left))
    return True


def send(process: ProcessId, signum: signal.Signals) -> None:
    """Send a signal to the process if it still runs."""
    if is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signum)


def stop(process: subprocess.Popen[bytes], grace: float) -> int:
    """Stop a child by SIGTERM, after `grace` seconds by SIGKILL; return its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            return process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
