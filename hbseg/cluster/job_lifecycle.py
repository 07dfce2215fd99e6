"""Jobs as they come and go: a task's job is made once, replaced only when it has ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from hbseg.cluster import run_owner as anchors
from hbseg.cluster.kinds import kind_of
from hbseg.cluster.names import SPEC_HASH, spec_name_of
from hbseg.cluster.observe.job_state import is_over
from hbseg.cluster.observe.observation import Sight
from hbseg.cluster.pods.states import is_owned, name_of
from hbseg.cluster.rendering.manifests import check_storage, job_objects, storage_of
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
"""Beyond a pod's grace, until a deleted job is gone with its pods."""
DEFAULT_GRACE = 30.0
"""Seconds of a pod that does not say its grace."""

Item = Mapping[str, Any]


def checked(cluster: Cluster, resource: Resource, item: Item) -> dict[str, Any]:
    """Return an object as the server would make it; nothing is made.

    Raises:
        InvalidInput: the server or a webhook refuses it.
    """
    try:
        return cluster.create(resource, item, dry_run=True)
    except ConflictError:  # admission had no objection; one of that name is there
        return dict(item)


class Jobs:
    """Makes and removes the jobs of tasks."""

    def __init__(self, cluster: Cluster, sight: Sight) -> None:
        self._cluster = cluster
        self._sight = sight

    def start(self, run: Run, task: Task, placement: Placement, *, data: str) -> None:
        """Make the task's job, unless it runs already with this spec.

        First all that may refuse it, then what is hard to undo: the old job and the old marker go
        last. Raises as `KubernetesBackend.submit`.
        """
        call = StepCall.of(run, task, data=data)
        check_storage(storage_of(call), placement.cluster)
        config_map, job = job_objects(call, placement, namespace=self._cluster.namespace)
        anchors.check_anchor(self._cluster, run)
        there = self._sight.job(run, task.name)
        if there is not None and not is_over(there):
            return self._check_spec(run, task, there)
        resource = kind_of(job).resource
        checked(self._cluster, CONFIG_MAP, config_map)
        checked(self._cluster, resource, job)
        anchor = anchors.ensured_anchor(self._cluster, run)
        anchors.ensure_spec(self._cluster, config_map, anchor)
        self.remove(run, task.name, there)
        there = self._sight.job(run, task.name)
        if there is not None and not is_over(there):  # another submit was faster
            return self._check_spec(run, task, there)
        anchors.forget_cancel(self._cluster, anchor, task.name)
        end_series(run, task.step, task.name)
        task.folder.delete(MARKER)
        try:
            self._cluster.create(resource, _owned(job, anchor))
        except ConflictError:
            self._check_spec(run, task, self._same_name(run, task, job))
        return None

    def _same_name(self, run: Run, task: Task, job: Item) -> Item:
        """Return the job that has taken the name meanwhile. Raises ConflictError."""
        there = self._cluster.find(kind_of(job).resource, name_of(job))
        ours = self._sight.job(run, task.name)
        if there is None or ours is None or name_of(ours) != name_of(there):
            raise ConflictError(
                f"{job['kind']} {name_of(job)} of {self._cluster.namespace} is another run's",
                "choose another name with --run, or delete it",
            )
        return there

    def _check_spec(self, run: Run, task: Task, there: Item) -> None:
        """Refuse a job that runs with another spec. Raises ConflictError."""
        if _spec_hash(there) == task.spec.digest():
            return
        old, new = self.spec_of(there), task.spec.to_mapping()
        changed = "" if old is None else f" ({in_one_line(spec_changes(old, new))})"
        raise ConflictError(
            f"{task.prefix} of run {run.name} runs with another spec{changed}",
            f"wait for it, or stop it: hbseg cancel {run.name}",
        )

    def spec_of(self, job: Item) -> Mapping[str, Any] | None:
        """Return the spec that a job was made with; none if it is gone."""
        name = spec_name_of(_spec_hash(job))
        config_map = self._cluster.find(CONFIG_MAP, name)
        text = ((config_map or {}).get("data") or {}).get("spec.yaml")
        if text is None:
            return None
        with suppress(HbsegError):
            loaded = load_yaml(text, source=name)
            return loaded if isinstance(loaded, Mapping) else None
        return None

    def remove(self, run: Run, task_name: str, job: Item | None) -> None:
        """Delete a job, if there is one, and return when it and its pods are gone.

        Raises:
            NotFinished: they were still there long after the pods' grace.
        """
        if job is not None:
            with suppress(ConflictError):  # somebody has replaced it already
                resource, uid = kind_of(job).resource, job["metadata"]["uid"]
                self._cluster.delete(resource, name_of(job), uid=uid)
        elif not self._sight.seen(run, task_name).pods:
            return
        limit = _grace(job) + GONE_SECONDS
        deadline = time.monotonic() + limit
        with self._sight.mirror(run, task_name) as mirror:
            while left := _left(job, self._sight.jobs_in(mirror, task_name), mirror.objects(POD)):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise NotFinished(
                        f"{left[0]} of run {run.name} still stops after {limit:.0f} s",
                        f"try again; see: hbseg events {run.name}",
                    )
                mirror.wait(remaining)


def _left(job: Item | None, jobs: Iterable[Item], pods: Iterable[Item]) -> list[str]:
    """Return the names of what is left of a deleted job: itself and its pods."""
    if job is None:
        return [name_of(pod) for pod in pods]
    uid = job["metadata"]["uid"]
    owned = [pod for pod in pods if is_owned(pod, uid)]
    same = [other for other in jobs if other["metadata"]["uid"] == uid]
    return [name_of(item) for item in (*owned, *same)]


def _owned(job: Item, anchor: Item) -> dict[str, Any]:
    return {**job, "metadata": {**job["metadata"], "ownerReferences": [anchors.owner(anchor)]}}


def _spec_hash(job: Item) -> str:
    return str((job["metadata"].get("annotations") or {}).get(SPEC_HASH, ""))


def _grace(job: Item | None) -> float:
    """Return the seconds that a job's pods have from SIGTERM to SIGKILL."""
    templates = [] if job is None else kind_of(job).pod_templates(job)
    graces = (
        (template.get("spec") or {}).get("terminationGracePeriodSeconds") for template in templates
    )
    return max((float(grace or DEFAULT_GRACE) for grace in graces), default=DEFAULT_GRACE)
