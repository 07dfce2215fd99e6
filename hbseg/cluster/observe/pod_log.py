"""The log of one pod: each line once and complete, in spite of broken connections."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.informer import OUTAGE_SECONDS
from hbseg.cluster.requests.transport import FIRST_PAUSE, MAX_PAUSE, Answer
from hbseg.errors import InvalidInput, NotFoundError, UnreachableError
from hbseg.system.backoff import Backoff
from hbseg.system.clock import parse, z_time

_RANK_LINE = re.compile(r"(\S+Z) \[([\w-]+)\] ?(.*)", re.S)
_OWN_LINE = re.compile(r"\d{4}-\d\d-\d\dT\S+ (.*)", re.S)
LAUNCHER = "launcher"
"""Name of lines that no rank wrote: the launcher's own, and any before it started."""


@dataclass(frozen=True)
class Line:
    """One line of a pod."""

    time: str
    """ISO 8601, UTC, to a millisecond."""
    name: str
    """The rank, `torchrun`, or `launcher`."""
    text: str

    def shown(self, *, several: bool) -> str:
        """Return it as `<time> [<name>] <text>`, without the name where there is one rank."""
        return f"{self.time} [{self.name}] {self.text}" if several else f"{self.time} {self.text}"


def parsed(raw: bytes) -> Line:
    """Return a line of a log that was requested with timestamps."""
    stamp, _, text = raw.decode(errors="replace").rstrip("\r").partition(" ")
    if match := _RANK_LINE.fullmatch(text):
        return Line(*match.groups())
    own = _OWN_LINE.fullmatch(text)
    return Line(_milliseconds(stamp), LAUNCHER, own[1] if own else text)


def _milliseconds(stamp: str) -> str:
    try:
        return z_time(parse(stamp))
    except ValueError:
        return stamp


class _Position:
    """How far a log was read, so that another stream can continue there."""

    def __init__(self) -> None:
        self._stamp = b""
        self._count = 0
        self._skip = 0

    @property
    def since(self) -> str | None:
        """The time, to a second, from which to request lines."""
        if not self._stamp:
            return None
        text = self._stamp.decode(errors="replace")
        return re.sub(r"\.\d+", "", text)

    def begin(self) -> None:
        """Start another stream, which repeats the last second."""
        self._skip = self._count

    def is_new(self, raw: bytes) -> bool:
        """Return whether a line is new, and remember it."""
        stamp = raw.partition(b" ")[0]
        if stamp < self._stamp:
            return False
        if stamp > self._stamp:
            self._stamp, self._count, self._skip = stamp, 1, 0
            return True
        if self._skip:
            self._skip -= 1
            return False
        self._count += 1
        return True


def whole_log(cluster: Cluster, pod: str, container: str) -> Iterator[Line]:
    """Yield the lines that a pod has now; none if it has not started or was deleted."""
    try:
        for raw in cluster.pod_log(pod, container=container):
            yield parsed(raw)
    except (NotFoundError, InvalidInput):
        return


class PodFollower(threading.Thread):
    """Reads a pod's log until its container has ended.

    `put` gets each line, and at the end None or the error that ended it; `is_over` says whether
    the container has ended.
    """

    def __init__(
        self,
        cluster: Cluster,
        pod: str,
        container: str,
        *,
        put: Callable[[Line | Exception | None], None],
        is_over: Callable[[], bool],
        outage: float = OUTAGE_SECONDS,
    ) -> None:
        super().__init__(name=f"log-{pod}", daemon=True)
        self._cluster, self._pod, self._container = cluster, pod, container
        self._put, self._is_over, self._outage = put, is_over, outage
        self._stopped = threading.Event()
        self._answer: Answer | None = None
        self._position = _Position()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped.set()
        if self._answer is not None:
            self._answer.close()

    def run(self) -> None:
        """Read to the end."""
        end: Exception | None = None
        try:
            self._follow()
        except Exception as error:  # a bug, too, or the reader of the lines would wait for ever
            end = error
        self._put(end)

    def _follow(self) -> None:
        last_answer, backoff = time.monotonic(), Backoff(FIRST_PAUSE, MAX_PAUSE)
        while not self._stopped.is_set():
            was_over = self._is_over()
            try:
                if self._read():
                    backoff.reset()
                last_answer = time.monotonic()
                if was_over:  # a stream that ends earlier may have been cut
                    return
            except NotFoundError:
                return
            except InvalidInput:  # it has not started yet, or its node has forgotten it
                if was_over:
                    return
            except UnreachableError:
                if time.monotonic() - last_answer > self._outage:
                    raise
            backoff.wait(self._stopped)

    def _read(self) -> bool:
        """Pass on new lines until the stream ends; return whether there were any."""
        any_new = False
        self._position.begin()
        lines = self._cluster.pod_log(
            self._pod,
            container=self._container,
            follow=True,
            since=self._position.since,
            opened=self._keep,
        )
        for raw in lines:
            if self._position.is_new(raw):
                any_new = True
                self._put(parsed(raw))
        return any_new

    def _keep(self, answer: Answer) -> None:
        self._answer = answer
        if self._stopped.is_set():
            answer.close()
