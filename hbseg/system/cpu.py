"""What the CPU of this machine can do."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from hbseg.errors import SpecError

CPU_INFO = Path("/proc/cpuinfo")

_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Linux's names of instructions for bfloat16: two of x86-64, one of 64-bit Arm (not measured)."""


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use: affinity and cgroup quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def usable_threads() -> int:
    """Return the number of threads for this process: `OMP_NUM_THREADS`, else one for each core.

    The launcher sets the variable; in a pod to the cores that the process asked for, not to all of
    the node's.

    Raises:
        SpecError: the variable is no positive number.
    """
    # OpenMP allows a list, one number for each level of nesting; the first is the outermost.
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if not text:
        return usable_cores()
    if not (text.isdecimal() and text.isascii()) or int(text) < 1:
        raise SpecError(f"OMP_NUM_THREADS is {text!r:.40}, expected a number from 1")
    return int(text)


def has_bf16() -> bool:
    """Return whether this CPU has instructions for bfloat16; false where that cannot be known.

    Without them torch emulates bf16: a U-Net's step took 9 times as long as in fp32.
    """
    try:
        text = CPU_INFO.read_text(errors="replace")
    except OSError:
        return False
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, flags=re.MULTILINE)
    return found is not None and not _BF16.isdisjoint(found[1].split())
