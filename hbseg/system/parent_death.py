"""Runs a program that the kernel ends together with the process that started it.

Started by path, so that it costs milliseconds: `python -I -S parent_death.py PARENT PROGRAM ...`.
The kernel counts the parent's starting *thread* as the parent: start such processes from a thread
that lives as long as they may. Elsewhere than on Linux the program just runs.
"""

import ctypes
import os
import signal
import sys

SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2); it is kept over exec."""


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent process `parent` ends.

    Where that has ended already, this process ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call above
            os.kill(os.getpid(), signal.SIGKILL)


def main(parent: int, command: list[str]) -> None:
    """Tie this process to `parent`, then become `command`."""
    die_with(parent)
    os.execv(command[0], command)  # noqa: S606 - a list that hbseg made


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
