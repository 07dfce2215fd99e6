"""What commands cost, measured side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""


_NO_CACHE = "PYTHONDONTWRITEBYTECODE"
"""Would have each start compile again what was changed last, which no installed hbseg does."""


@dataclass(frozen=True)
class Command:
    """A command line, and where it runs."""

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    folder: Path = ROOT


def hbseg(*words: str) -> list[str]:
    """Return a command line of hbseg."""
    return [sys.executable, "-m", "hbseg_cli", *words]


@dataclass(frozen=True)
class Cost:
    """Seconds of one command: by the clock, and of CPU (user and system, children included)."""

    wall: float
    cpu: float


def cost_of(command: Command) -> Cost:
    """Run a command, throw away what it prints, return what it costs.

    Raises:
        RuntimeError: it fails; the message is the end of what it said.
    """
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            command.words,
            cwd=command.folder,
            env={name: value for name, value in command.environment.items() if name != _NO_CACHE},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command.words}: {said.read().decode(errors='replace')[-2000:]}")
    return Cost(wall, used.ru_utime + used.ru_stime)


def medians(commands: Mapping[str, Command], times: int) -> dict[str, Cost]:
    """Run all commands in turn, `times` times after a first one; return each one's medians.

    In turn, so that what else the machine does meets all of them alike.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for turn in range(times + 1):
        for name, command in commands.items():
            cost = cost_of(command)
            if turn:
                costs[name].append(cost)
    return {
        name: Cost(median(cost.wall for cost in found), median(cost.cpu for cost in found))
        for name, found in costs.items()
    }
