"""A namespace for one test, as strict as Pod Security allows, with what our pods mount."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from tests.cluster.cluster import STATE_SECONDS, TestCluster
from tests.cluster.ground import S3_SECRET, Ground

LABELS = {
    "app.kubernetes.io/part-of": "hbseg-tests",
    "pod-security.kubernetes.io/enforce": "restricted",
}

_CREATED = "--for=create"
_BOUND = "--for=jsonpath={.status.phase}=Bound"
_TIMEOUT = f"--timeout={STATE_SECONDS:.0f}s"


@dataclass(frozen=True)
class TestNamespace:
    """A namespace of its own."""

    __test__: ClassVar[bool] = False

    name: str
    ground: Ground

    @property
    def cluster(self) -> TestCluster:
        """Where it is."""
        return self.ground.cluster

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Return what kubectl prints, in this namespace."""
        return self.cluster.kubectl("--namespace", self.name, *arguments, input=input)

    def create(self, *objects: dict[str, Any]) -> None:
        """Create objects in this namespace."""
        self.cluster.create(*(self._placed(body) for body in objects))

    def wait(self, what: str, state: str, seconds: float = STATE_SECONDS) -> None:
        """Return when `kubectl wait --for=state what` does."""
        self.kubectl("wait", what, f"--for={state}", f"--timeout={seconds:.0f}s")

    def _placed(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "metadata": {**body["metadata"], "namespace": self.name}}


@contextmanager
def fresh_namespace(ground: Ground) -> Iterator[TestNamespace]:
    """Yield a namespace where pods can start; the cluster removes it afterwards.

    It has the Secret of S3's keys, and a bound claim for each of the ground's folders.
    """
    namespace, cluster = TestNamespace(f"test-{uuid.uuid4().hex[:8]}", ground), ground.cluster
    volumes = [_volume(namespace.name, claim, path) for claim, path in ground.folders.items()]
    cluster.create(_namespace(namespace.name), *volumes)
    try:
        namespace.create(_secret(ground.keys), *(_claim(volume) for volume in volumes))
        namespace.kubectl("wait", "serviceaccount/default", _CREATED, _TIMEOUT)
        for claim in ground.folders:
            namespace.kubectl("wait", f"persistentvolumeclaim/{claim}", _BOUND, _TIMEOUT)
        yield namespace
    finally:
        cluster.kubectl("delete", "namespace", namespace.name, "--wait=false")
        for volume in volumes:
            name = volume["metadata"]["name"]
            cluster.kubectl("delete", "persistentvolume", name, "--wait=false")


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": LABELS}}


def _secret(keys: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": S3_SECRET}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(keys)}


def _volume(namespace: str, claim: str, path: str) -> dict[str, Any]:
    """Return a volume for a claim: `restricted` forbids pods to name a path of the node."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{claim}"},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "capacity": {"storage": "1Gi"},
            "claimRef": {"namespace": namespace, "name": claim},
            "hostPath": {"path": path, "type": "Directory"},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
        },
    }


def _claim(volume: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": volume["spec"]["claimRef"]["name"]},
        "spec": {
            "accessModes": volume["spec"]["accessModes"],
            "resources": {"requests": volume["spec"]["capacity"]},
            "storageClassName": "",
            "volumeName": volume["metadata"]["name"],
        },
    }
