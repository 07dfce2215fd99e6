"""The kinds of objects that hbseg uses, and their paths in the API."""

from __future__ import annotations

from typing import NamedTuple


class Resource(NamedTuple):
    """One kind of object: its group, version, plural and kind."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    brought_by: str = ""
    """What installs the kind in a cluster, for error messages; empty where its name says enough."""

    @property
    def api_version(self) -> str:
        """The kind's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def named(self) -> str:
        """The kind as roles and `kubectl` name it, e.g. `pytorchjobs.kubeflow.org`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str, name: str = "") -> str:
        """Return the URL path of the kind in a namespace, or of one object of it."""
        base = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{base}{inside}/{self.plural}" + (f"/{name}" if name else "")


POD = Resource("", "v1", "pods", "Pod")
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
SECRET = Resource("", "v1", "secrets", "Secret")
EVENT = Resource("", "v1", "events", "Event")
RESOURCE_QUOTA = Resource("", "v1", "resourcequotas", "ResourceQuota")
SERVICE_ACCOUNT = Resource("", "v1", "serviceaccounts", "ServiceAccount")
CLAIM = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
JOB = Resource("batch", "v1", "jobs", "Job")
LEASE = Resource("coordination.k8s.io", "v1", "leases", "Lease")
PYTORCH_JOB = Resource(
    "kubeflow.org",
    "v1",
    "pytorchjobs",
    "PyTorchJob",
    brought_by="the Kubeflow training operator",
)
WORKLOAD = Resource("kueue.x-k8s.io", "v1beta1", "workloads", "Workload")
ACCESS_REVIEW = Resource(
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews",
    "SelfSubjectAccessReview",
    namespaced=False,
)
