"""Create and remove the jobs of tasks: a job is created once, and replaced once it has ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from hbseg.cluster import run_owner
from hbseg.cluster.kinds import kind_of
from hbseg.cluster.names import SPEC_HASH, spec_name_of
from hbseg.cluster.objects import Object
from hbseg.cluster.observe.job_state import is_over, job_state
from hbseg.cluster.observe.observer import TaskObserver, jobs_in
from hbseg.cluster.pods.states import is_owned, name_of
from hbseg.cluster.pods.template import require_image, step_profile
from hbseg.cluster.rendering.manifests import check_storage, job_objects
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.resources import CONFIG_MAP, POD, Resource
from hbseg.config.changes import in_one_line, spec_changes
from hbseg.config.placement import Placement
from hbseg.documents import load_yaml
from hbseg.errors import ConflictError, HbsegError, NotFinished
from hbseg.runs.retries import end_series
from hbseg.runs.run import Run
from hbseg.runs.step_call import StepCall
from hbseg.runs.task import Task
from hbseg.storage.markers import MARKER

GONE_SECONDS = 120.0
"""Seconds, beyond the pods' grace period, for a deleted job and its pods to be gone."""
DEFAULT_GRACE = 30.0
"""Grace period in seconds of a pod that does not set one."""


def checked(cluster: Cluster, resource: Resource, item: Object) -> dict[str, Any]:
    """Return an object as the server would create it; nothing is created.

    Raises:
        InvalidInput: the server or a webhook refuses it.
    """
    try:
        return cluster.create(resource, item, dry_run=True)
    except ConflictError:  # it passed admission; an object of that name exists
        return dict(item)


class Jobs:
    """Creates and removes the jobs of tasks."""

    def __init__(self, cluster: Cluster, observer: TaskObserver) -> None:
        self._cluster = cluster
        self._observer = observer

    def start(self, run: Run, task: Task, placement: Placement, *, data: str) -> None:
        """Create the task's job, unless it runs already with this spec.

        Everything that may refuse it comes first, then what is hard to undo: the old job and the
        old marker are deleted last. Raises as `KubernetesBackend.submit`.
        """
        call = StepCall.of(run, task, data=data)
        check_storage(call.folders(), step_profile(placement.cluster, call.step))
        require_image(call.step, call.engine, placement)
        config_map, job = job_objects(call, placement, namespace=self._cluster.namespace)
        run_owner.check_run_owner(self._cluster, run)
        there = self._observer.job(run, task.name)
        if there is not None and self._is_at_work(run, task, there):
            return self._check_spec(run, task, there)
        resource = kind_of(job).resource
        checked(self._cluster, CONFIG_MAP, config_map)
        checked(self._cluster, resource, job)
        owner = run_owner.ensure_run_owner(self._cluster, run)
        run_owner.ensure_spec(self._cluster, config_map, owner)
        self.remove(run, task.name, there)
        there = self._observer.job(run, task.name)
        if there is not None and self._is_at_work(run, task, there):  # another submit was faster
            return self._check_spec(run, task, there)
        run_owner.forget_cancel(self._cluster, owner, task.name)
        end_series(run, task.step, task.name)
        task.folder.delete(MARKER)
        try:
            self._cluster.create(resource, _owned(job, owner))
        except ConflictError:
            self._check_spec(run, task, self._same_name(run, task, job))
        return None

    def _is_at_work(self, run: Run, task: Task, job: Object) -> bool:
        """Return whether a job may not be replaced: it has not ended, and not for its sidecars."""
        if is_over(job):
            return False
        return not job_state(self._observer.observe(run, task.name)).is_kept_alive

    def _same_name(self, run: Run, task: Task, job: Object) -> Object:
        """Return the task's job that took the name in the meantime. Raises ConflictError."""
        there = self._cluster.find(kind_of(job).resource, name_of(job))
        ours = self._observer.job(run, task.name)
        if there is None or ours is None or name_of(ours) != name_of(there):
            raise ConflictError(
                f"{job['kind']} {name_of(job)} of {self._cluster.namespace} is another run's",
                "choose another name with --run, or delete it",
            )
        return there

    def _check_spec(self, run: Run, task: Task, there: Object) -> None:
        """Refuse if the job runs with another spec. Raises ConflictError."""
        if _spec_hash(there) == task.spec.digest():
            return
        old, new = self.spec_of(there), task.spec.to_mapping()
        changed = "" if old is None else f" ({in_one_line(spec_changes(old, new))})"
        raise ConflictError(
            f"{task.prefix} of run {run.name} runs with another spec{changed}",
            f"wait for it, or stop it: hbseg cancel {run.name}",
        )

    def spec_of(self, job: Object) -> Mapping[str, Any] | None:
        """Return the spec that a job was created with; none if it was deleted."""
        name = spec_name_of(_spec_hash(job))
        config_map = self._cluster.find(CONFIG_MAP, name)
        text = ((config_map or {}).get("data") or {}).get("spec.yaml")
        if text is None:
            return None
        with suppress(HbsegError):
            loaded = load_yaml(text, source=name)
            return loaded if isinstance(loaded, Mapping) else None
        return None

    def remove(self, run: Run, task_name: str, job: Object | None) -> None:
        """Delete a job, if there is one, and return when it and its pods are gone.

        Raises:
            NotFinished: they still exist long after the pods' grace period.
        """
        if job is not None:
            with suppress(ConflictError):  # somebody has replaced it already
                resource, uid = kind_of(job).resource, job["metadata"]["uid"]
                self._cluster.delete(resource, name_of(job), uid=uid)
        elif not self._observer.observe(run, task_name).pods:
            return
        limit = _grace(job) + GONE_SECONDS
        deadline = time.monotonic() + limit
        with self._observer.informer(run, task_name) as informer:
            while left := _left(job, jobs_in(informer, task_name), informer.objects(POD)):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise NotFinished(
                        f"{left[0]} of run {run.name} is still stopping after {limit:.0f} s",
                        f"try again; see: hbseg events {run.name}",
                    )
                informer.wait(remaining)


def _left(job: Object | None, jobs: Iterable[Object], pods: Iterable[Object]) -> list[str]:
    """Return the names of a deleted job and its pods, as far as they still exist."""
    if job is None:
        return [name_of(pod) for pod in pods]
    uid = job["metadata"]["uid"]
    owned = [pod for pod in pods if is_owned(pod, uid)]
    same = [other for other in jobs if other["metadata"]["uid"] == uid]
    return [name_of(item) for item in (*owned, *same)]


def _owned(job: Object, owner: Object) -> dict[str, Any]:
    return {
        **job,
        "metadata": {**job["metadata"], "ownerReferences": [run_owner.owner_reference(owner)]},
    }


def _spec_hash(job: Object) -> str:
    return str((job["metadata"].get("annotations") or {}).get(SPEC_HASH, ""))


def _grace(job: Object | None) -> float:
    """Return the seconds that a job's pods have from SIGTERM to SIGKILL."""
    templates = [] if job is None else kind_of(job).pod_templates(job)
    graces = (
        (template.get("spec") or {}).get("terminationGracePeriodSeconds") for template in templates
    )
    return max((float(grace or DEFAULT_GRACE) for grace in graces), default=DEFAULT_GRACE)
