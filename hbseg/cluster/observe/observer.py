"""Observations of tasks, from lists or from an informer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hbseg.cluster.kinds import kinds_of_task
from hbseg.cluster.objects import Manifest, Object
from hbseg.cluster.observe.listing import WARNINGS, Listing, WatchedListing, selector
from hbseg.cluster.observe.observation import Observation
from hbseg.cluster.observe.snapshot import Snapshot
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.informer import Informer, Watched
from hbseg.cluster.requests.resources import EVENT, POD
from hbseg.runs.run import Run


class TaskObserver:
    """Observes tasks in one namespace."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def snapshot(self, runs: Sequence[Run]) -> Snapshot:
        """Return a snapshot that has these runs; for several, it lists the objects of all runs."""
        return Snapshot(Listing(self._cluster, runs[0].name if len(runs) == 1 else None))

    def _of_task(self, run: Run, task_name: str) -> Snapshot:
        return Snapshot(Listing(self._cluster, run.name, task_name))

    def job(self, run: Run, task_name: str) -> Object | None:
        """Return a task's job, or none."""
        return self._of_task(run, task_name).job(run, task_name)

    def observe(self, run: Run, task_name: str) -> Observation:
        """Return what the cluster has of a task now."""
        return self._of_task(run, task_name).observe(run, task_name)

    def informer(
        self, run: Run, task_name: str, on_change: Callable[[], None] = lambda: None
    ) -> Informer:
        """Return an informer of a task's jobs, pods and warnings; it watches while it is open."""
        labels, possible = selector(run.name, task_name), kinds_of_task(task_name)
        optional = len(possible) > 1  # then the cluster need not know each
        watched = [
            *(Watched(kind.resource, labels=labels, optional=optional) for kind in possible),
            Watched(POD, labels=labels),
            Watched(EVENT, fields=WARNINGS, optional=True),
        ]
        return Informer(self._cluster, watched, on_change=on_change)

    def observe_in(self, informer: Informer, run: Run, task_name: str) -> Observation:
        """Return what the informer has of a task."""
        listing = WatchedListing(self._cluster, informer, run.name, task_name)
        return Snapshot(listing).observe(run, task_name, always_explain=True)


def jobs_in(informer: Informer, task_name: str) -> list[Manifest]:
    """Return the jobs that the informer of a task has."""
    return [job for kind in kinds_of_task(task_name) for job in informer.objects(kind.resource)]
