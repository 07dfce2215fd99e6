"""The training operator's own manifests, for an operator that is a process of the node.

What its release has stays as it is: the type PyTorchJob, its roles, its webhook. Only its Service
leads to the node's address instead of to a pod.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cluster.node.addresses import NODE_ADDRESS

NAME = "training-operator"
NAMESPACE = "kubeflow"
CERTIFICATE_SECRET = "training-operator-webhook-cert"
"""The operator writes its webhook's certificate into it; it must exist beforehand."""

_FILES = (
    "overlays/standalone/namespace.yaml",
    "base/crds/kubeflow.org_pytorchjobs.yaml",
    "base/rbac/cluster-role-binding.yaml",
    "base/rbac/role.yaml",
    "base/rbac/service-account.yaml",
)
_WEBHOOK = "base/webhook"
_PORT = {"name": "webhook-server", "port": 443, "targetPort": 9443}


def write_operator_manifests(release: Path, folder: Path) -> None:
    """Write a kustomization into `folder`, over copies of files of the `release`'s manifests."""
    folder.mkdir(parents=True)
    for file in _FILES:
        shutil.copy(release / file, folder)
    shutil.copytree(release / _WEBHOOK, folder / "webhook")
    (folder / "service.yaml").write_text(json.dumps(_service()))
    (folder / "endpoints.yaml").write_text(json.dumps(_endpoints()))
    resources = [*(Path(file).name for file in _FILES), "webhook", "service.yaml", "endpoints.yaml"]
    secret = {"name": CERTIFICATE_SECRET, "options": {"disableNameSuffixHash": True}}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": resources,
        "secretGenerator": [secret],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))


def _service() -> dict[str, object]:
    """Return a Service without a selector: we say ourselves where it leads."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"ports": [_PORT]},
    }


def _endpoints() -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"name": _PORT["name"], "port": _PORT["targetPort"], "protocol": "TCP"}],
    }
