"""The logs of a task's pods, merged by time, or followed through restarts and outages."""

from __future__ import annotations

import heapq
import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hbseg.cluster.kinds import kind_of
from hbseg.cluster.objects import Object
from hbseg.cluster.observe.job_state import job_state, latest
from hbseg.cluster.observe.observation import Observation
from hbseg.cluster.observe.pod_log import Line, PodFollower, whole_log
from hbseg.cluster.pods.containers import main_name
from hbseg.cluster.pods.states import has_started, is_running, name_of
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.informer import Informer
from hbseg.cluster.requests.resources import POD
from hbseg.errors import HbsegError
from hbseg.runs.backend import ENDED, Phase
from hbseg.runs.logs import lines_of, stored_texts
from hbseg.runs.run import Run

TICK_SECONDS = 5.0
"""Seconds between two checks for reasons that depend on time alone, e.g. an operator's silence."""


def merged_logs(
    cluster: Cluster, job: Object, pods: Sequence[Object], rank: int | None
) -> Iterator[str]:
    """Yield the lines of all pods by their times."""
    several = kind_of(job).num_ranks(job) > 1
    streams = [whole_log(cluster, name_of(pod), main_name(pod)) for pod in pods if has_started(pod)]
    for line in heapq.merge(*streams, key=lambda line: line.time):
        if is_wanted(line, rank):
            yield line.shown(several=several)


def is_wanted(line: Line, rank: int | None) -> bool:
    """Return whether a line is of this rank; without a rank, every line is."""
    return rank is None or line.name == str(rank)


@dataclass
class Followed:
    """A task whose logs are followed."""

    run: Run
    task_name: str
    rank: int | None
    observe: Callable[[Informer], Observation]
    """Returns what the informer has of the task now."""
    tell: Callable[[str], None]
    """Called once with each reason for waiting."""
    last_times: dict[str, str] = field(default_factory=dict)
    """Name of a rank: time of the last line of it that was shown."""

    def from_storage(self, *, several: bool) -> Iterator[str]:
        """Yield what storage has after the last lines: a pod may be removed with its log."""
        with suppress(HbsegError):
            texts = stored_texts(self.run, self.task_name, self.rank)
            lines = [
                Line(stamp, name.partition("-")[0], text)
                for name, content in texts.items()
                for stamp, _, text in (line.partition(" ") for line in lines_of(content))
            ]
            for line in sorted(lines, key=lambda line: line.time):
                if line.time > self.last_times.get(line.name, ""):
                    yield line.shown(several=several)


class Follower:
    """Follows the pods of one task; it attaches to recreated pods as they start."""

    def __init__(self, cluster: Cluster, followed: Followed) -> None:
        self._cluster = cluster
        self._followed = followed
        self._queue: queue.SimpleQueue[Line | Exception | str | None] = queue.SimpleQueue()
        self._readers: dict[str, PodFollower] = {}
        self._open = 0
        self._several = False
        self._told = ""

    def changed(self) -> None:
        """Wake the follower: an object changed."""
        self._queue.put("changed")

    def lines(self, informer: Informer) -> Iterator[str]:
        """Yield lines as they arrive, until the job has ended and all its lines have arrived."""
        try:
            while not self._update(informer) or self._open:
                for line in self._arrived():
                    self._followed.last_times[line.name] = line.time
                    if is_wanted(line, self._followed.rank):
                        yield line.shown(several=self._several)
            yield from self._followed.from_storage(several=self._several)
        finally:
            for reader in self._readers.values():
                reader.stop()

    def _arrived(self) -> Iterator[Line]:
        """Wait for a line, then yield all that have arrived."""
        with suppress(queue.Empty):
            item = self._queue.get(timeout=TICK_SECONDS)
            while True:
                if isinstance(item, Line):
                    yield item
                elif isinstance(item, Exception):
                    raise item
                elif item is None:
                    self._open -= 1
                item = self._queue.get_nowait()

    def _update(self, informer: Informer) -> bool:
        """Attach to new pods, report why the task waits, and return whether it has ended."""
        observation = self._followed.observe(informer)
        state = job_state(observation)
        if observation.job is not None:
            self._several = kind_of(observation.job).num_ranks(observation.job) > 1
        for pod in latest(observation.pods):
            if has_started(pod) and pod["metadata"]["uid"] not in self._readers:
                self._attach(informer, pod)
        if state.phase == Phase.PENDING and state.reason != self._told:
            self._told = state.reason
            self._followed.tell(state.reason)
        if state.phase == Phase.RUNNING:
            self._told = ""
        return state.phase in ENDED or state.phase == Phase.ABSENT

    def _attach(self, informer: Informer, pod: Object) -> None:
        uid = pod["metadata"]["uid"]

        def is_over() -> bool:
            now = [item for item in informer.objects(POD) if item["metadata"]["uid"] == uid]
            return not (now and is_running(now[0]))

        reader = PodFollower(
            self._cluster, name_of(pod), main_name(pod), put=self._queue.put, is_over=is_over
        )
        self._readers[uid] = reader
        self._open += 1
        reader.start()
