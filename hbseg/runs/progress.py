"""How far a step is: heartbeats of its processes, and what storage knows of them.

Each process reports its position whenever it makes progress (`Heartbeat`), in a file of its own in
the folder `HBSEG_PROGRESS`, written at most once a second. The launcher reads these files: a
process whose heartbeats stop has stalled (`StallWatch`), and the slowest one is the step's progress
(`ProgressReport`, in storage as `logs/<step>/<attempt>/progress.json`). A step without heartbeats
is never considered stalled.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from hbseg.documents import Document
from hbseg.errors import HbsegError, InvalidInput, NotFoundError
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.files import write_atomically
from hbseg.system.clock import document_time, parse

WRITE_SECONDS = 1.0
"""Between two writes of a process's beat."""


class ProgressReport(Document):
    """`logs/<step>/<attempt>/progress.json`: how far the slowest process of the first node is."""

    kind: Literal["Progress"] = "Progress"
    done: int
    total: int
    unit: str
    """What is counted: steps, images, calls."""
    epoch: int | None = None
    """Epoch in work, from 1."""
    epochs: int | None = None
    rate: float = 0.0
    """Units per second since this attempt's first beat, validation included; 0: not known yet."""
    beat: str
    """Last beat of the process that has been silent the longest: ISO 8601, UTC."""
    rank: int
    """That process."""
    stall_timeout: float
    """Seconds of silence after which the step is stopped."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end at this rate; none where the rate is not known."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    def silence(self, now: datetime | None = None) -> float:
        """Return the seconds since the last beat, by this machine's clock."""
        since = (now or datetime.now(UTC)) - parse(self.beat)
        return max(0.0, since.total_seconds())


def progress_key(step: Step, attempt: int) -> str:
    """Return the key of an attempt's progress in its run."""
    return f"logs/{step}/{attempt}/progress.json"


def read_progress(run: Run, step: Step, attempt: int) -> ProgressReport | None:
    """Return how far an attempt is; none where it has told nothing that this version can read.

    Raises:
        UnreachableError: storage does not answer.
    """
    key = progress_key(step, attempt)
    try:
        return ProgressReport.from_text(run.folder.get(key), source=f"{run.folder.url}/{key}")
    except (NotFoundError, InvalidInput):
        return None


@dataclass(frozen=True)
class Beat:
    """Where one process stands."""

    rank: int
    done: int
    total: int
    unit: str
    epoch: int | None
    epochs: int | None
    time: float
    """Seconds since 1970."""
    waiting_for_peers: bool = False
    """Whether it may be waiting for the other processes."""

    @property
    def when(self) -> str:
        """The time as documents carry it."""
        return document_time(datetime.fromtimestamp(self.time, UTC))

    @property
    def place(self) -> str:
        """Where the process stands, for people."""
        return f"{self.unit.removesuffix('s')} {self.done} of {self.total}"


class Heartbeat:
    """What a process tells of itself; a beat costs a microsecond, the file is another thread's.

    Without a folder all is accepted and nothing kept.
    """

    def __init__(self, folder: Path | None = None, rank: int = 0) -> None:
        self._path = None if folder is None else folder / f"{rank}.json"
        self._rank = rank
        self._latest: Beat | None = None
        self._written: Beat | None = None
        self._lock = threading.Lock()

    @classmethod
    def of_environment(cls) -> Heartbeat:
        """Return the heartbeat of this process, as the launcher and torchrun configure it."""
        folder = os.environ.get("HBSEG_PROGRESS")
        return cls(Path(folder) if folder else None, int(os.environ.get("RANK", "0")))

    def beat(
        self,
        done: int,
        total: int,
        unit: str,
        *,
        epoch: int | None = None,
        epochs: int | None = None,
    ) -> None:
        """Tell that `done` of `total` units are finished; `epoch` counts from 1."""
        first = self._latest is None
        self._latest = Beat(self._rank, done, total, unit, epoch, epochs, time.time())
        if first and self._path is not None:
            self.flush()
            threading.Thread(target=self._write_on, name="heartbeat", daemon=True).start()

    def touch(self, *, waiting_for_peers: bool = False) -> None:
        """Report progress although no unit is finished, or that the process waits for its peers."""
        if self._latest is not None:
            self._latest = replace(
                self._latest, time=time.time(), waiting_for_peers=waiting_for_peers
            )

    def flush(self) -> None:
        """Write the latest beat now; a disk that is full costs the beat alone."""
        with self._lock, suppress(OSError, HbsegError):
            latest = self._latest
            if self._path is None or latest is None or latest is self._written:
                return
            write_atomically(self._path, json.dumps(asdict(latest)).encode())
            self._written = latest

    def _write_on(self) -> None:
        while True:
            time.sleep(WRITE_SECONDS)
            self.flush()


def read_heartbeats(folder: Path) -> list[Beat]:
    """Return the latest beat of each process that has told one."""
    beats = []
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError, TypeError):
            beats.append(Beat(**json.loads(path.read_bytes())))
    return beats


def report_of(beats: list[Beat], first: Beat, *, stall_timeout: float) -> ProgressReport:
    """Return the report of at least one beat; `first` is an early one, for the rate."""
    slowest = min(beats, key=lambda beat: beat.done)
    silent = min(beats, key=lambda beat: beat.time)
    seconds = slowest.time - first.time
    rate = (slowest.done - first.done) / seconds if seconds > 0 else 0.0
    return ProgressReport(
        done=slowest.done,
        total=slowest.total,
        unit=slowest.unit,
        epoch=slowest.epoch,
        epochs=slowest.epochs,
        rate=max(0.0, round(rate, 6)),
        beat=silent.when,
        rank=silent.rank,
        stall_timeout=stall_timeout,
    )


@dataclass(frozen=True)
class Stall:
    """A process whose heartbeats have stopped."""

    rank: int
    reason: str
    waiting_for_peers: bool
    """Whether it may only have waited for another process, of another node."""


class StallWatch:
    """Finds the process of this node that is silent for longer than a limit.

    Silence is measured here, from beat to beat, so no change of the clock makes a stall.
    """

    def __init__(
        self, folder: Path, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._timeout = timeout
        self._clock = clock
        self._seen: dict[int, tuple[Beat, float]] = {}

    def look(self) -> Stall | None:
        """Return the process that stalled, or none; of several the one that waits for no peer."""
        now = self._clock()
        for beat in read_heartbeats(self._folder):
            seen = self._seen.get(beat.rank)
            if seen is None or seen[0] != beat:
                self._seen[beat.rank] = (beat, now)
        silent = [beat for beat, since in self._seen.values() if now - since > self._timeout]
        if not silent:
            return None
        cause = min(silent, key=lambda beat: (beat.waiting_for_peers, beat.time))
        unit = cause.unit.removesuffix("s")
        reason = (
            f"rank {cause.rank} stalled: no {unit} for {self._timeout:g} s, last was {cause.place}"
        )
        return Stall(cause.rank, reason, cause.waiting_for_peers)
