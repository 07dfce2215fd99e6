import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil
import pytest

from hbseg.system.processes import (
    ProcessId,
    dies_with_parent,
    identified,
    is_alive,
    send,
    stop,
    wait_for_end,
)

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


@contextmanager
def child(command: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that is killed at the end, whatever happens in between."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_living_process_is_told_from_another_birth() -> None:
    me = identified(os.getpid())

    assert me is not None
    assert is_alive(me)
    assert not is_alive(ProcessId(me.pid, me.birth - 1))


def test_a_zombie_lives_no_more() -> None:
    with child([sys.executable, "-c", ""]) as process:
        me = identified(process.pid)
        assert me is None or wait_for_end(me, 30)
        assert identified(process.pid) is None


def test_waiting_ends_at_the_end_or_at_the_limit() -> None:
    with child(SLEEPER) as process:
        me = identified(process.pid)
        assert me is not None
        assert not wait_for_end(me, 0.05)
        process.kill()
        assert wait_for_end(me, 30)
    assert wait_for_end(me, 30)


def test_a_zombie_whose_parent_never_reaps_it_has_ended() -> None:
    script = (
        "import signal, subprocess, sys\n"
        f"print(subprocess.Popen({SLEEPER!r}).pid, flush=True)\n"
        "signal.pause()\n"
    )
    with child([sys.executable, "-c", script]) as parent:
        assert parent.stdout is not None
        grandchild = identified(int(parent.stdout.readline()))
        assert grandchild is not None
        send(grandchild, signal.SIGKILL)
        assert wait_for_end(grandchild, 30)
        assert not is_alive(grandchild)


def no_pidfd(pid: int) -> int:
    raise OSError(errno.ENOSYS, f"no descriptor of {pid}")


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_waiting_without_pidfd_is_the_same(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr("os.pidfd_open", no_pidfd)
    with child(SLEEPER) as process:
        assert psutil.pid_exists(process.pid)  # loaded as what this platform is
        monkeypatch.setattr("sys.platform", platform)
        me = identified(process.pid)
        assert me is not None
        assert not wait_for_end(me, 0.05)
        process.kill()
        assert wait_for_end(me, 30)
        assert identified(process.pid) is None
        monkeypatch.undo()


def test_a_tied_process_dies_with_who_started_it() -> None:
    script = (
        "import subprocess, os, signal; from hbseg.system.processes import dies_with_parent\n"
        f"child = subprocess.Popen(dies_with_parent({SLEEPER!r}))\n"
        "print(child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    child = identified(int(result.stdout))

    assert child is None or wait_for_end(child, 30)


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    script = (
        "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    )
    with child([sys.executable, "-c", script]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert stop(process, grace=0.05) == -9


def test_a_tied_command_is_the_command() -> None:
    done = subprocess.run(
        dies_with_parent([sys.executable, "-c", "print('x')"]), capture_output=True, check=True
    )

    assert done.stdout == b"x\n"


def test_a_process_may_tie_itself_to_its_parent() -> None:
    tied = (
        "import os, signal; from hbseg.system.parent_death import die_with\n"
        "die_with(os.getppid()); print(os.getpid(), flush=True); signal.pause()\n"
    )
    parent = (
        "import os, signal, subprocess, sys\n"
        f"command = [sys.executable, '-c', {tied!r}]\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)\n"
        "os.write(1, child.stdout.readline()); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", parent], capture_output=True, check=False)
    child = identified(int(result.stdout))

    try:
        assert child is None or wait_for_end(child, 30)
    finally:
        if child is not None:
            send(child, signal.SIGKILL)


def test_a_process_whose_parent_has_ended_already_ends_at_once() -> None:
    script = "import signal; from hbseg.system.parent_death import die_with\ndie_with(0)\n"

    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)

    assert done.returncode == -9
