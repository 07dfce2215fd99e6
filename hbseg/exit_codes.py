"""Exit codes, of commands and of steps: the one place that names them (docs/reference.md)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class CommandExit(IntEnum):
    """Exit code of the command `hbseg`."""

    DONE = 0
    BUG = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_AVAILABLE = 4
    """Cluster or storage does not answer, or does not allow it."""
    REFUSED = 5
    """Data, a spec, a name or a contract is not valid."""
    JOB_FAILED = 100
    NOT_FINISHED = 101
    CANCELLED = 103
    INTERRUPTED = 130


class StepExit(IntEnum):
    """Exit code of a step, in a pod or in a local process.

    A code below 128 is permanent; 128 and above may be tried again. 128 + n stands for signal n.
    """

    DONE = 0
    GIVEN_UP = 1
    """Of a pod: no attempt follows, though the code of the cause would ask for one."""
    DATA = 65
    MISSING_INPUT = 66
    BUG = 70
    CONTRACT = 76
    """A checkpoint or an engine does not fit."""
    SPEC = 78
    KILLED = 137
    """SIGKILL, usually out of memory."""
    TERMINATED = 143
    """SIGTERM: a cancel, or a machine that was taken away."""
    TRANSIENT = 170
    """Trying again may help."""


PERMANENT: Final = frozenset(
    (StepExit.DATA, StepExit.MISSING_INPUT, StepExit.BUG, StepExit.CONTRACT, StepExit.SPEC)
)
"""Codes with which a step says that trying again does not help."""
