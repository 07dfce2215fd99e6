"""What the cluster has of a run's tasks: by one look, or from a informer that watches keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hbseg.cluster import kinds
from hbseg.cluster.kinds import kind_of, kinds_of_task
from hbseg.cluster.names import QUEUE, RUN, TASK
from hbseg.cluster.objects import Object
from hbseg.cluster.observe.events import is_about
from hbseg.cluster.observe.job_state import Observation, job_state
from hbseg.cluster.pods.states import created_of, is_owned, name_of
from hbseg.cluster.requests.api_errors import MissingKind
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.informer import Informer, Watched
from hbseg.cluster.requests.resources import EVENT, POD, WORKLOAD, Resource
from hbseg.cluster.run_owner import cancelled_tasks, find_run_owner, is_of_run
from hbseg.errors import HbsegError
from hbseg.runs.backend import Phase
from hbseg.runs.run import Run
from hbseg.runs.steps import is_step

WARNINGS = "type=Warning"
"""Events that tell why something waits."""


def selector(run: Run, task_name: str | None = None) -> str:
    """Return the label selector of a run's objects, or of one task's."""
    of_run = f"{RUN}={run.name}"
    return of_run if task_name is None else f"{of_run},{TASK}={task_name}"


class TaskObserver:
    """Looks at one namespace."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def jobs(self, run: Run) -> list[tuple[str, Object]]:
        """Return task and job of all tasks of a run."""
        found = [
            job
            for kind in kinds.KINDS
            for job in self._listed(kind.resource, selector(run))
            if is_of_run(job, run)
        ]
        named = ((str(job["metadata"]["labels"].get(TASK, "")), job) for job in found)
        return [(task, job) for task, job in named if is_step(task)]

    def job(self, run: Run, task_name: str) -> Object | None:
        """Return a task's job, or none."""
        labels = selector(run, task_name)
        found = [
            job for kind in kinds_of_task(task_name) for job in self._listed(kind.resource, labels)
        ]
        return _newest(found, run)

    def _listed(self, resource: Resource, labels: str) -> list[dict[str, Any]]:
        """Return the jobs of a kind; none where the cluster does not know it: so has none."""
        try:
            return self._cluster.list(resource, labels=labels)
        except MissingKind:
            return []

    def tasks_with_pods(self, run: Run) -> list[str]:
        """Return the tasks that have pods, be it that their jobs are gone."""
        pods = self._cluster.list(POD, labels=selector(run))
        tasks = {str(pod["metadata"]["labels"].get(TASK, "")) for pod in pods}
        return sorted(task for task in tasks if is_step(task))

    def observe(self, run: Run, task_name: str) -> Observation:
        """Return what the cluster has of a task now."""
        pods = self._cluster.list(POD, labels=selector(run, task_name))
        seen = self._of_run(run, task_name, self.job(run, task_name), pods)
        if seen.job is None or job_state(seen).phase != Phase.PENDING:
            return seen
        events: list[dict[str, Any]] = []
        with suppress(HbsegError):
            events = self._cluster.list(EVENT, fields=WARNINGS)
        return self._explained(seen, seen.job, events)

    def _of_run(
        self, run: Run, task_name: str, job: Object | None, pods: Iterable[Object]
    ) -> Observation:
        """Return job and pods of this very run; another one may have its name, in other storage."""
        if job is not None:
            uid = job["metadata"]["uid"]
            return Observation(
                job, [pod for pod in pods if is_owned(pod, uid)], self._cluster.now()
            )
        owner = find_run_owner(self._cluster, run)
        cancelled = task_name in cancelled_tasks(owner)
        left = [] if owner is None else list(pods)
        return Observation(None, left, self._cluster.now(), cancelled=cancelled)

    def watched(self, run: Run, task_name: str) -> list[Watched]:
        """Return what a informer of a task has to watch."""
        labels, possible = selector(run, task_name), kinds_of_task(task_name)
        optional = len(possible) > 1  # then the cluster need not know each
        return [
            *(Watched(kind.resource, labels=labels, optional=optional) for kind in possible),
            Watched(POD, labels=labels),
            Watched(EVENT, fields=WARNINGS, optional=True),
        ]

    def informer(
        self, run: Run, task_name: str, on_change: Callable[[], None] = lambda: None
    ) -> Informer:
        """Return a informer of a task's objects; it watches while it is open."""
        return Informer(self._cluster, self.watched(run, task_name), on_change=on_change)

    def jobs_in(self, informer: Informer, task_name: str) -> list[dict[str, Any]]:
        """Return the jobs of a task's kinds that the informer has."""
        return [job for kind in kinds_of_task(task_name) for job in informer.objects(kind.resource)]

    def job_in(self, informer: Informer, run: Run, task_name: str) -> Object | None:
        """Return a task's job as the informer has it."""
        return _newest(self.jobs_in(informer, task_name), run)

    def observe_in(self, informer: Informer, run: Run, task_name: str) -> Observation:
        """Return what the informer has of a task."""
        job = self.job_in(informer, run, task_name)
        seen = self._of_run(run, task_name, job, informer.objects(POD))
        return seen if job is None else self._explained(seen, job, informer.objects(EVENT))

    def _explained(self, seen: Observation, job: Object, events: Iterable[Object]) -> Observation:
        uids = [item["metadata"]["uid"] for item in (job, *seen.pods)]
        about = [event for event in events if is_about(event, [name_of(job)], uids)]
        return replace(seen, events=about, workload=self._workload(job))

    def _workload(self, job: Object) -> Object | None:
        """Return Kueue's object for a job that it holds back, where we may see it."""
        in_queue = QUEUE in (job["metadata"].get("labels") or {})
        if not in_queue or not kind_of(job).is_suspended(job):
            return None
        with suppress(HbsegError):
            uid = job["metadata"]["uid"]
            found = self._cluster.list(WORKLOAD, labels=f"kueue.x-k8s.io/job-uid={uid}")
            return found[0] if found else None
        return None


def _newest(jobs: Iterable[Object], run: Run) -> Object | None:
    ours = [job for job in jobs if is_of_run(job, run)]
    return max(ours, key=created_of, default=None)
