"""Where observations take their objects from: lists, or an informer. Nothing is kept here."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from typing import Final

from hbseg.cluster import kinds
from hbseg.cluster.kinds import kinds_of_task
from hbseg.cluster.kinds.job_kind import JobKind
from hbseg.cluster.names import RUN, STEP, TASK
from hbseg.cluster.objects import Manifest
from hbseg.cluster.requests.api_errors import MissingKind
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.informer import Informer
from hbseg.cluster.requests.resources import CONFIG_MAP, EVENT, POD, WORKLOAD, Resource
from hbseg.errors import HbsegError

WARNINGS: Final = "type=Warning"
"""Field selector of the events that say why something waits."""
JOB_UID: Final = "kueue.x-k8s.io/job-uid"
"""Kueue's label on a Workload: the job's uid."""
MAX_UIDS: Final = 50
"""Uids in one label selector, which is part of a URL; for more, all Workloads are listed."""


def selector(run_name: str | None = None, task_name: str | None = None) -> str:
    """Return the label selector of one task's objects, of one run's, or of all runs'."""
    if run_name is None:
        return RUN
    return f"{RUN}={run_name}" + ("" if task_name is None else f",{TASK}={task_name}")


class Listing:
    """The objects of one task, of one run, or of all runs. Each method lists its kinds again."""

    def __init__(
        self, cluster: Cluster, run_name: str | None = None, task_name: str | None = None
    ) -> None:
        self._cluster = cluster
        self._run_name, self._task_name = run_name, task_name
        self._labels = selector(run_name, task_name)

    def now(self) -> datetime:
        """Return the time by the server's clock."""
        return self._cluster.now()

    def kinds(self) -> tuple[JobKind, ...]:
        """Return the kinds that the jobs may be."""
        return kinds.KINDS if self._task_name is None else kinds_of_task(self._task_name)

    def jobs(self) -> list[Manifest]:
        """Return the jobs of all kinds; a kind that the cluster does not know has none."""
        return [job for kind in self.kinds() for job in self._jobs_of(kind.resource)]

    def _jobs_of(self, resource: Resource) -> list[Manifest]:
        try:
            return self._cluster.list(resource, labels=self._labels)
        except MissingKind:
            return []

    def pods(self) -> list[Manifest]:
        """Return the pods."""
        return self._cluster.list(POD, labels=self._labels)

    def run_owners(self) -> list[Manifest]:
        """Return the ConfigMaps that own runs, without those that hold specs."""
        return self._cluster.list(CONFIG_MAP, labels=f"{selector(self._run_name)},!{STEP}")

    def warnings(self) -> list[Manifest]:
        """Return the namespace's warnings; none where we may not see them."""
        with suppress(HbsegError):
            return self._cluster.list(EVENT, fields=WARNINGS)
        return []

    def workloads(self, uids: Collection[str]) -> list[Manifest]:
        """Return Kueue's objects for at least the jobs with these uids, where we may see them."""
        few = len(uids) <= MAX_UIDS
        labels = f"{JOB_UID} in ({','.join(sorted(uids))})" if few else JOB_UID
        with suppress(HbsegError):
            return self._cluster.list(WORKLOAD, labels=labels)
        return []


class WatchedListing(Listing):
    """The objects of one task: jobs, pods and warnings from an informer, the rest from lists."""

    def __init__(self, cluster: Cluster, informer: Informer, run_name: str, task_name: str) -> None:
        super().__init__(cluster, run_name, task_name)
        self._informer = informer

    def jobs(self) -> list[Manifest]:
        """Return the jobs that the informer has."""
        return [job for kind in self.kinds() for job in self._informer.objects(kind.resource)]

    def pods(self) -> list[Manifest]:
        """Return the pods that the informer has."""
        return self._informer.objects(POD)

    def warnings(self) -> list[Manifest]:
        """Return the warnings that the informer has."""
        return self._informer.objects(EVENT)
