"""Logs of the ranks: files of their lines, and their echo in a pod's own log."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from hbseg.system.clock import now, z_time

MAX_LOG = 32 << 20
"""Bytes of a rank's log that are copied: its end."""
MAX_LINE = 1 << 20
STDOUT = 1

_PREFIX = re.compile(rb"\[rank(\d+)\]:")


def say(text: str) -> None:
    """Print a line of the launcher's own, with its time, to stderr."""
    print(f"{now()} {text}", file=sys.stderr, flush=True)


class RankLogs:
    """Files with the lines of each rank, each line with its time.

    With `torchrun` ranks are told apart by torchrun's prefix, and its own lines go to
    `torchrun.log`; of several nodes, whose files meet in one folder of storage, `node` names this
    one's. Without, all lines are of one rank. With `echo` each line goes to stdout too, with its
    time and rank.
    """

    def __init__(self, folder: Path, *, torchrun: bool, node: int = 0, echo: bool = False) -> None:
        self.folder = folder
        self._torchrun = torchrun
        self._own = f"torchrun-{node}" if node else "torchrun"
        self._alone = str(node)
        self._echo = echo
        self._files: dict[str, BinaryIO] = {}
        self._partial = b""
        self.last_line = ""
        """Last line of a rank, for failures without a record."""
        folder.mkdir(parents=True, exist_ok=True)

    def feed(self, data: bytes) -> None:
        """Take a piece of the step's output."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._write(line)
        if len(self._partial) > MAX_LINE:
            self._write(self._partial)
            self._partial = self._label_of_rest(self._partial)

    def close(self) -> None:
        """Write what is left."""
        if self._partial:
            self._write(self._partial)
        for file in self._files.values():
            file.close()

    def end_of_rank(self, rank: int) -> str:
        """Return the last lines of a rank's log."""
        with suppress(OSError):
            return end_of(self.folder / f"{rank}.log", 1 << 16).decode(errors="replace")
        return ""

    def _label_of_rest(self, line: bytes) -> bytes:
        """Return torchrun's prefix of the rank whose line was cut: the rest comes without one."""
        found = list(_PREFIX.finditer(line)) if self._torchrun else []
        return found[-1][0] if found else b""

    def _write(self, line: bytes) -> None:
        line = line.rstrip(b"\r")
        if not self._torchrun:
            self._keep(self._alone, line)
            return
        # torchrun may pass a line on before its end, and glue another rank's behind it
        before, *pieces = _PREFIX.split(line)
        if before or not pieces:
            self._keep(self._own, before)
        for rank, text in zip(pieces[0::2], pieces[1::2], strict=True):
            if text.strip() or len(pieces) == 2:  # torch puts the rank before a traceback too
                self._keep(rank.decode(), text.lstrip(b" ") if text.strip() else b"")

    def _keep(self, name: str, line: bytes) -> None:
        if name != self._own and line.strip():
            self.last_line = line.decode(errors="replace").strip()
        stamp = z_time(datetime.now(UTC)).encode()
        with suppress(OSError):  # a full disk ends the step, which says so
            if name not in self._files:
                self._files[name] = (self.folder / f"{name}.log").open("ab", buffering=0)
            self._files[name].write(stamp + b" " + line + b"\n")
        if self._echo:
            label = "torchrun" if name == self._own else name
            self._print(stamp + f" [{label}] ".encode() + line + b"\n")

    def _print(self, line: bytes) -> None:
        """Write a line to stdout, whole in one call where the system takes it whole."""
        try:
            while line:
                line = line[os.write(STDOUT, line) :]
        except OSError:
            self._echo = False  # nobody reads it any more; the files go on


def end_of(path: Path, limit: int = MAX_LOG) -> bytes:
    """Return the last `limit` bytes of a log, from the start of a line on."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - limit))
        data = file.read(limit)
    return data.partition(b"\n")[2] if size > limit else data
