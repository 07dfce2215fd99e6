"""The owner of a run: a ConfigMap that owns every other object of it; deleting it deletes them all.

It also records which tasks were cancelled: the cluster forgets that when it deletes their jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hbseg.cluster.names import RUNS, labels, run_owner_name
from hbseg.cluster.objects import Object
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.resources import CONFIG_MAP
from hbseg.errors import ConflictError, NotFoundError
from hbseg.runs.run import Run
from hbseg.runs.states import TaskState
from hbseg.runs.step_call import runs_url

_TRIES: Final = 5


def check_run_owner(cluster: Cluster, run: Run) -> None:
    """Refuse a run if another run has its name in this namespace.

    Raises:
        ConflictError: the run's owner names another folder of runs.
    """
    owner = cluster.find(CONFIG_MAP, run_owner_name(run.name))
    if owner is not None:
        _check(cluster, run, owner)


def ensure_run_owner(cluster: Cluster, run: Run) -> dict[str, Any]:
    """Return the run's owner; create it if there is none. Raises ConflictError as above."""
    wanted = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": {
            "name": run_owner_name(run.name),
            "labels": labels(run.name),
            "annotations": {RUNS: runs_url(run)},
        },
        "data": {},
    }
    for _ in range(_TRIES):
        owner = cluster.find(CONFIG_MAP, run_owner_name(run.name))
        if owner is not None:
            _check(cluster, run, owner)
            return owner
        try:
            return cluster.create(CONFIG_MAP, wanted)
        except ConflictError:  # somebody was faster
            continue
    raise ConflictError(
        f"ConfigMap {run_owner_name(run.name)} is created and deleted by others", "try again"
    )


def _check(cluster: Cluster, run: Run, owner: Object) -> None:
    if _runs_of(owner) != runs_url(run):
        raise ConflictError(
            f"run {run.name} of namespace {cluster.namespace} is that of "
            f"{_runs_of(owner) or 'somebody else'}, not of {runs_url(run)}",
            "choose another name with --run, or another namespace with -n",
        )


def _runs_of(item: Object) -> str | None:
    annotations: Mapping[str, str] = item["metadata"].get("annotations") or {}
    return annotations.get(RUNS)


def is_of_run(item: Object, run: Run) -> bool:
    """Return whether an object with the run's name belongs to this run, not to a namesake."""
    return _runs_of(item) == runs_url(run)


def owner_reference(owner: Object) -> dict[str, Any]:
    """Return the owner reference that an object of the run carries."""
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }


def record_cancel(cluster: Cluster, run: Run, task_name: str) -> None:
    """Record in the run's owner that a task was cancelled."""
    name = ensure_run_owner(cluster, run)["metadata"]["name"]
    cluster.patch(CONFIG_MAP, name, {"data": {task_name: TaskState.CANCELLED}})


def forget_cancel(cluster: Cluster, owner: Object, task_name: str) -> None:
    """Remove the record that a task was cancelled."""
    if task_name in (owner.get("data") or {}):
        cluster.patch(CONFIG_MAP, owner["metadata"]["name"], {"data": {task_name: None}})


def cancelled_tasks(owner: Object | None) -> list[str]:
    """Return the names of the tasks that the owner records as cancelled; none without an owner."""
    data: Mapping[str, str] = (owner or {}).get("data") or {}
    return [name for name, state in data.items() if state == TaskState.CANCELLED]


def ensure_spec(cluster: Cluster, config_map: Object, owner: Object) -> None:
    """Create the ConfigMap of a spec, or add the owner to the owners of the existing one.

    Raises:
        ConflictError: the existing one has different content.
    """
    name = config_map["metadata"]["name"]
    wanted = {
        **config_map,
        "metadata": {**config_map["metadata"], "ownerReferences": [owner_reference(owner)]},
    }
    for _ in range(_TRIES):
        try:
            cluster.create(CONFIG_MAP, wanted)
            return
        except ConflictError:
            pass
        try:
            _adopt(cluster, name, config_map, owner)
            return
        except OtherContent:
            raise
        except (ConflictError, NotFoundError):  # changed or deleted meanwhile
            continue
    raise ConflictError(f"ConfigMap {name} is changed by others all the time", "try again")


def _adopt(cluster: Cluster, name: str, config_map: Object, owner: Object) -> None:
    """Add an owner to an existing spec. Raises ConflictError, NotFoundError."""
    there = cluster.get(CONFIG_MAP, name)
    if there.get("data") != config_map.get("data"):
        raise OtherContent(
            f"ConfigMap {name} in namespace {cluster.namespace} does not match the digest in its "
            "name",
            f"delete it: kubectl delete configmap {name}",
        )
    metadata = there["metadata"]
    owners = list(metadata.get("ownerReferences") or [])
    if owner_reference(owner)["uid"] not in {reference.get("uid") for reference in owners}:
        body = {
            "ownerReferences": [*owners, owner_reference(owner)],
            "resourceVersion": metadata["resourceVersion"],
        }
        cluster.patch(CONFIG_MAP, name, {"metadata": body})


class OtherContent(ConflictError):
    """An object named by its content's digest has different content."""
