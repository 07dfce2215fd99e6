"""Tasks of many runs at one moment: each kind of object is asked for at most once, when needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from hbseg.cluster.kinds import kind_of
from hbseg.cluster.names import QUEUE, RUN, TASK, run_owner_name
from hbseg.cluster.objects import Object
from hbseg.cluster.observe.events import is_about
from hbseg.cluster.observe.job_state import job_state
from hbseg.cluster.observe.listing import JOB_UID, Listing
from hbseg.cluster.observe.observation import Observation
from hbseg.cluster.pods.states import created_of, is_owned, name_of
from hbseg.cluster.run_owner import cancelled_tasks, is_of_run
from hbseg.runs.backend import Phase
from hbseg.runs.run import Run
from hbseg.runs.steps import is_step

ByTask = Mapping[str, Mapping[str, Sequence[Object]]]
"""Objects by run, then by task, as their labels name them."""


class Snapshot:
    """The objects of a listing, by run and task.

    Another run, in other storage, may have the same name: its objects are left out. The order of
    the lists matters. Pods come before jobs: failed pods of a job that seems unfinished would mean
    another attempt. Run owners come after jobs: a cancel is recorded before its job is deleted.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    @cached_property
    def _pods(self) -> ByTask:
        return _by_task(self._listing.pods())

    @cached_property
    def _jobs(self) -> ByTask:
        return _by_task(self._listing.jobs())

    @cached_property
    def _run_owners(self) -> dict[str, Object]:
        return {name_of(owner): owner for owner in self._listing.run_owners()}

    @cached_property
    def _warnings(self) -> list[Object]:
        return list(self._listing.warnings())

    @cached_property
    def _workloads(self) -> dict[str, Object]:
        """Kueue's objects by the uids of their jobs."""
        uids = [
            job["metadata"]["uid"]
            for of_run in self._jobs.values()
            for jobs in of_run.values()
            for job in jobs
            if _is_queued(job)
        ]
        found = self._listing.workloads(uids)
        return {item["metadata"].get("labels", {}).get(JOB_UID, ""): item for item in found}

    def run_owner(self, run: Run) -> Object | None:
        """Return the run's owner, or none."""
        owner = self._run_owners.get(run_owner_name(run.name))
        return owner if owner is not None and is_of_run(owner, run) else None

    def jobs(self, run: Run) -> list[tuple[str, Object]]:
        """Return task and job of all steps of a run."""
        return [
            (task_name, job)
            for task_name, jobs in self._jobs.get(run.name, {}).items()
            for job in jobs
            if is_step(task_name) and is_of_run(job, run)
        ]

    def job(self, run: Run, task_name: str) -> Object | None:
        """Return a task's newest job, or none."""
        jobs = self._jobs.get(run.name, {}).get(task_name, ())
        return max((job for job in jobs if is_of_run(job, run)), key=created_of, default=None)

    def tasks_with_pods(self, run: Run) -> list[str]:
        """Return the tasks that still have pods, even if their job was deleted."""
        found = list(filter(is_step, self._pods.get(run.name, {})))
        return sorted(found) if found and self.run_owner(run) is not None else []

    def tasks(self, run: Run) -> list[str]:
        """Return the tasks that have a job or pods, or that were cancelled, sorted."""
        with_pods = filter(is_step, self._pods.get(run.name, {}))
        found = {task_name for task_name, _ in self.jobs(run)}
        owner = self.run_owner(run)
        if owner is not None:
            found.update(with_pods, filter(is_step, cancelled_tasks(owner)))
        return sorted(found)

    def observe(self, run: Run, task_name: str, *, always_explain: bool = False) -> Observation:
        """Return what the cluster has of a task.

        Warnings and Kueue's object are added if the task is pending, or if `always_explain`.
        """
        pods = self._pods.get(run.name, {}).get(task_name, ())
        job = self.job(run, task_name)
        if job is None:
            return self._without_job(run, task_name, pods)
        uid = job["metadata"]["uid"]
        owned = [pod for pod in pods if is_owned(pod, uid)]
        observation = Observation(job, owned, self._listing.now())
        if always_explain or job_state(observation).phase == Phase.PENDING:
            return self._explained(observation, job)
        return observation

    def _without_job(self, run: Run, task_name: str, pods: Sequence[Object]) -> Observation:
        owner = self.run_owner(run)
        cancelled = task_name in cancelled_tasks(owner)
        left = () if owner is None else pods
        return Observation(None, left, self._listing.now(), cancelled=cancelled)

    def _explained(self, observation: Observation, job: Object) -> Observation:
        uids = [item["metadata"]["uid"] for item in (job, *observation.pods)]
        about = [event for event in self._warnings if is_about(event, [name_of(job)], uids)]
        workload = self._workloads.get(job["metadata"]["uid"]) if _is_queued(job) else None
        return replace(observation, events=about, workload=workload)


def _by_task(items: Iterable[Object]) -> ByTask:
    found: dict[str, dict[str, list[Object]]] = {}
    for item in items:
        labels = item["metadata"].get("labels") or {}
        of_run = found.setdefault(str(labels.get(RUN, "")), {})
        of_run.setdefault(str(labels.get(TASK, "")), []).append(item)
    return found


def _is_queued(job: Object) -> bool:
    """Return whether Kueue holds a job back."""
    return QUEUE in (job["metadata"].get("labels") or {}) and kind_of(job).is_suspended(job)
