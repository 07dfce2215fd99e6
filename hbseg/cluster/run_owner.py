"""The owner of a run: a ConfigMap that owns every object of it, so that deleting one removes all.

It also records what the cluster no longer knows once a job is deleted: that a task was cancelled.
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
from hbseg.runs.step_call import runs_url

CANCELLED: Final = "cancelled"
_TRIES = 5


def find_run_owner(cluster: Cluster, run: Run) -> dict[str, Any] | None:
    """Return the run's owner; none where there is none, or where it is another run's."""
    owner = cluster.find(CONFIG_MAP, run_owner_name(run.name))
    return owner if owner is not None and _runs_of(owner) == runs_url(run) else None


def check_run_owner(cluster: Cluster, run: Run) -> None:
    """Refuse a run whose name another one has in this namespace.

    Raises:
        ConflictError: its owner names other runs.
    """
    owner = cluster.find(CONFIG_MAP, run_owner_name(run.name))
    if owner is not None:
        _check(cluster, run, owner)


def ensure_run_owner(cluster: Cluster, run: Run) -> dict[str, Any]:
    """Return the run's owner, made where there is none. Raises ConflictError as above."""
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
    raise ConflictError(f"ConfigMap {run_owner_name(run.name)} comes and goes", "try again")


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
    """Return whether an object that has the run's name is of this very run."""
    return _runs_of(item) == runs_url(run)


def owner_reference(owner: Object) -> dict[str, Any]:
    """Return the reference that makes the owner an object's owner."""
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }


def record_cancel(cluster: Cluster, run: Run, task_name: str) -> None:
    """Put into the owner that a task was cancelled."""
    name = ensure_run_owner(cluster, run)["metadata"]["name"]
    cluster.patch(CONFIG_MAP, name, {"data": {task_name: CANCELLED}})


def forget_cancel(cluster: Cluster, owner: Object, task_name: str) -> None:
    """Take a task's cancel out of the owner."""
    if task_name in (owner.get("data") or {}):
        cluster.patch(CONFIG_MAP, owner["metadata"]["name"], {"data": {task_name: None}})


def cancelled_tasks(owner: Object | None) -> list[str]:
    """Return the names of the tasks that the owner knows as cancelled."""
    data: Mapping[str, str] = (owner or {}).get("data") or {}
    return [name for name, told in data.items() if told == CANCELLED]


def ensure_spec(cluster: Cluster, config_map: Object, owner: Object) -> None:
    """Create the ConfigMap of a spec; one that is there gets the owner as a further owner.

    Raises:
        ConflictError: the one that is there has another content.
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
    raise ConflictError(f"ConfigMap {name} changes all the time", "try again")


def _adopt(cluster: Cluster, name: str, config_map: Object, owner: Object) -> None:
    """Make the owner an owner of a spec that is there. Raises ConflictError, NotFoundError."""
    there = cluster.get(CONFIG_MAP, name)
    if there.get("data") != config_map.get("data"):
        raise OtherContent(
            f"ConfigMap {name} in namespace {cluster.namespace} has not the content of its name",
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
    """An object that is named by its content has another one."""
