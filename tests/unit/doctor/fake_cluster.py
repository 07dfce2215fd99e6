"""A fake of the cluster's client for the doctor: objects in a dict, answers as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hbseg.cluster.requests.client import Cluster, WatchEvent
from hbseg.cluster.requests.resources import Resource
from hbseg.cluster.requests.transport import Answer
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from hbseg.doctor.check import Check
from hbseg.doctor.subject import Subject
from hbseg.errors import DeniedError, HbsegError, NotFoundError

Object = dict[str, Any]
Objects = list[Object]


@dataclass
class FakeCluster(Cluster):
    """Holds objects by their plural and name."""

    namespace: str = "team"
    git_version: str = "v1.36.3"
    ahead: timedelta = timedelta(0)
    objects: dict[str, dict[str, Object]] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    """Plurals that may not be read."""
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    """Verb and plural (with subresource) that a review says no to."""
    refusals: dict[str, HbsegError] = field(default_factory=dict)
    """Kind: what a create of it is answered with; `list KIND`: what a listing is."""
    unreachable: HbsegError | None = None
    changes: list[Object] = field(default_factory=list)
    """Pods as a watch tells them, one after the other."""
    created: list[tuple[Object, bool]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the first delete: watches end."""

    @property
    def server(self) -> str:
        return "https://cluster"

    def put(self, plural: str, name: str, **content: Any) -> None:
        metadata = {"name": name, "namespace": self.namespace, **content.pop("metadata", {})}
        self.objects.setdefault(plural, {})[name] = {"metadata": metadata, **content}

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def version(self) -> Object:
        if self.unreachable is not None:
            raise self.unreachable
        return {"gitVersion": self.git_version}

    def get(self, resource: Resource, name: str) -> Object:
        self._check(resource)
        try:
            return self.objects[resource.plural][name]
        except KeyError:
            raise NotFoundError(f"no {resource.plural} {name}") from None

    def list(self, resource: Resource, *, labels: str = "", fields: str = "") -> Objects:
        self._check(resource)
        if api_error := self.refusals.get(f"list {resource.kind}"):
            raise api_error
        return [*self.objects.get(resource.plural, {}).values()]

    def list_versioned(
        self, resource: Resource, *, labels: str = "", fields: str = ""
    ) -> tuple[Objects, str]:
        return self.list(resource), "1"

    def watch(
        self,
        resource: Resource,
        version: str,
        *,
        labels: str = "",
        fields: str = "",
        opened: Callable[[Answer], None] = lambda answer: None,
    ) -> Iterator[WatchEvent]:
        if resource.plural != "pods":
            self.over.wait(60)
            return
        yield from (WatchEvent("MODIFIED", item) for item in self.changes)
        self.changes = []
        self.over.wait(60)

    def create(
        self, resource: Resource, item: Mapping[str, Any], *, dry_run: bool = False
    ) -> Object:
        if api_error := self.refusals.get(resource.kind):
            raise api_error
        self.created.append((dict(item), dry_run))
        if not dry_run:
            self.objects.setdefault(resource.plural, {})[item["metadata"]["name"]] = dict(item)
        return dict(item)

    def delete(
        self,
        resource: Resource,
        name: str,
        *,
        uid: str | None = None,
        propagation: str = "Background",
        grace: int | None = None,
    ) -> bool:
        self.over.set()
        self.deleted.append(name)
        return True

    def can(self, verb: str, resource: Resource, *, name: str = "", subresource: str = "") -> bool:
        plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
        return (verb, plural) not in self.forbidden

    def _check(self, resource: Resource) -> None:
        if resource.plural in self.denied:
            raise DeniedError(f"not allowed to get {resource.plural}", "run: hbseg doctor")


Look = Callable[[Subject], Any]


def subject(cluster: FakeCluster, *, nodes: int = 1, processes: int = 1, **profile: Any) -> Subject:
    placement = Placement(
        nodes=nodes, processes_per_node=processes, cluster=ClusterProfile(**profile)
    )
    return Subject(cluster, placement)


def one(look: Look, of: Subject) -> Check:
    (check,) = look(of)
    assert isinstance(check, Check)
    return check


ROOM = {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "1Ti", "nvidia.com/gpu": "4"}


def node(cluster: FakeCluster, name: str, room: dict[str, str], **spec: Any) -> None:
    labels = spec.pop("labels", {})
    cluster.put("nodes", name, metadata={"labels": labels}, spec=spec, status={"allocatable": room})
