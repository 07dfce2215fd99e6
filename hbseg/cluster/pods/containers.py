"""A pod's containers and what each is to the pod. No requests.

A service mesh adds containers of its own, before or after ours, and the kubelet lists the states
of all containers by their names. So neither a container's place nor that of its state says which
one does the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from hbseg.cluster.names import MAIN_CONTAINERS
from hbseg.cluster.objects import Object


class Role(Enum):
    """What a container is to its pod."""

    INIT = auto()
    """Ends before the main container starts."""
    NATIVE_SIDECAR = auto()
    """An init container that keeps running. It starts before the main container and is ended after
    it; its end does not count for the pod."""
    MAIN = auto()
    """Does the work of the pod."""
    SIDECAR = auto()
    """Runs beside the main container. The pod does not end before it does."""


@dataclass(frozen=True)
class Container:
    """A container of a pod."""

    name: str
    role: Role
    status: Object
    """What the kubelet reports of it; empty before it does."""

    @property
    def state(self) -> Object:
        """One of `waiting`, `running` and `terminated`, with its details."""
        return self.status.get("state") or {}

    @property
    def end(self) -> Object | None:
        """How it ended; none where it has not."""
        ended: Object | None = self.state.get("terminated")
        return ended


def main_name(pod: Object) -> str:
    """Return the name of the container that does the work of a pod.

    Where no name is known, as in jobs of another version, it is the first container.
    """
    named = [str(item["name"]) for item in pod["spec"]["containers"]]
    return next((name for name in named if name in MAIN_CONTAINERS), named[0])


def containers(pod: Object) -> list[Container]:
    """Return the containers of a pod in the order of its spec: those that initialise it first."""
    status = pod.get("status") or {}
    reported = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    statuses = {str(item["name"]): item for item in reported}
    return [Container(name, role, statuses.get(name, {})) for name, role in _roles(pod)]


def _roles(pod: Object) -> Iterator[tuple[str, Role]]:
    spec: dict[str, Any] = pod["spec"]
    for item in spec.get("initContainers") or []:
        is_sidecar = item.get("restartPolicy") == "Always"
        yield str(item["name"]), Role.NATIVE_SIDECAR if is_sidecar else Role.INIT
    main = main_name(pod)
    for item in spec["containers"]:
        name = str(item["name"])
        yield name, Role.MAIN if name == main else Role.SIDECAR


def main_container(pod: Object) -> Container:
    """Return the container that does the work of a pod."""
    return next(item for item in containers(pod) if item.role == Role.MAIN)
