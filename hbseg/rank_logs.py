"""Logs of the ranks: files of their lines, and the copies of them in storage."""

from __future__ import annotations

import os
import re
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from hbseg.attempts import Ending, failure_key, log_folder, now
from hbseg.errors import HbsegError
from hbseg.runs import Run
from hbseg.steps import Step

UPLOAD_SECONDS = 30.0
"""Between two copies of the logs to storage."""
LARGEST_LOG = 32 << 20
"""Bytes of a rank's log that are copied: its end."""
LONGEST_LINE = 1 << 20

_PREFIX = re.compile(rb"\[rank(\d+)\]:")


def say(text: str) -> None:
    """Print a line of the launcher's own, with its time, to stderr."""
    print(f"{now()} {text}", file=sys.stderr, flush=True)


class RankLogs:
    """Files with the lines of each rank, each line with its time."""

    def __init__(self, folder: Path, *, torchrun: bool) -> None:
        self.folder = folder
        self._torchrun = torchrun
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
        if len(self._partial) > LONGEST_LINE:
            self._write(self._partial)
            self._partial = b""

    def close(self) -> None:
        """Write what is left."""
        if self._partial:
            self._write(self._partial)
        for file in self._files.values():
            file.close()

    def own_text(self) -> str:
        """Return what torchrun itself said."""
        with suppress(OSError):
            return (self.folder / "torchrun.log").read_text(errors="replace")
        return ""

    def _write(self, line: bytes) -> None:
        line = line.rstrip(b"\r")
        if not self._torchrun:
            self._keep("0", line)
            return
        # torchrun may pass a line on before its end, and glue another rank's behind it
        before, *pieces = _PREFIX.split(line)
        if before or not pieces:
            self._keep("torchrun", before)
        for rank, text in zip(pieces[0::2], pieces[1::2], strict=True):
            if text.strip() or len(pieces) == 2:  # torch puts the rank before a traceback too
                self._keep(rank.decode(), text.lstrip(b" ") if text.strip() else b"")

    def _keep(self, name: str, line: bytes) -> None:
        if name != "torchrun" and line.strip():
            self.last_line = line.decode(errors="replace").strip()
        if name not in self._files:
            self._files[name] = (self.folder / f"{name}.log").open("ab", buffering=0)
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        self._files[name].write(f"{stamp}Z ".encode() + line + b"\n")


class LogUpload(threading.Thread):
    """Copies an attempt's logs to storage; storage that is down costs a warning, not the step."""

    def __init__(self, run: Run, step: Step, number: int, folder: Path) -> None:
        super().__init__(name="log-upload", daemon=True)
        self._run, self._step, self._number, self._folder = run, step, number, folder
        self._done = threading.Event()
        self._ending: Ending | None = None
        self._sizes: dict[str, int] = {}

    def run(self) -> None:
        """Copy every 30 s, and a last time when the attempt has ended."""
        while not self._done.wait(UPLOAD_SECONDS):
            self._copy()
        ending = self._ending
        if ending is not None and ending.code != 0:
            self._put(failure_key(self._step, self._number), ending.to_json())
        self._copy()

    def finish(self, ending: Ending, limit: float) -> None:
        """Write the record of a failure and the logs as they are now, within `limit` seconds."""
        self._ending = ending
        self._done.set()
        self.join(limit)
        if self.is_alive():
            say("storage does not answer: the end of the logs is only here")

    def _copy(self) -> None:
        for path in sorted(self._folder.glob("*.log")):
            size = path.stat().st_size
            if self._sizes.get(path.name) != size:
                key = f"{log_folder(self._step, self._number)}/{path.name}"
                if not self._put(key, end_of(path)):
                    return
                self._sizes[path.name] = size

    def _put(self, key: str, data: bytes) -> bool:
        try:
            self._run.folder.put(key, data)
        except HbsegError as error:
            say(f"warning: {key} is not in storage: {error}")
            return False
        return True


def end_of(path: Path) -> bytes:
    """Return the last `LARGEST_LOG` bytes of a log, from the start of a line on."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LARGEST_LOG))
        data = file.read(LARGEST_LOG)
    return data.partition(b"\n")[2] if size > LARGEST_LOG else data
