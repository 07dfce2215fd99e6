"""Pods that a `restricted` namespace takes, with our packages on their path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.cluster.namespace import S3_SECRET, SITE_CLAIM, SOURCE_CLAIM
from tests.cluster.node.images import BASE

SITE, SOURCE = "/hbseg/site", "/hbseg/source"


def python_pod(
    code: str, *, container: str = "python", environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the `spec` of a pod that runs `code` once, as a user who may write to /tmp only."""
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(container, code, environment or {})],
        "volumes": [
            *(_claimed(name) for name in (SITE_CLAIM, SOURCE_CLAIM)),
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def pytorch_job(name: str, pod: dict[str, Any]) -> dict[str, Any]:
    """Return a PyTorchJob of one pod."""
    master = {"replicas": 1, "restartPolicy": "Never", "template": {"spec": pod}}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": name},
        "spec": {"pytorchReplicaSpecs": {"Master": master}},
    }


def _container(name: str, code: str, environment: Mapping[str, str]) -> dict[str, Any]:
    variables = {"PYTHONPATH": f"{SOURCE}:{SITE}", "AWS_REGION": "us-east-1", **environment}
    return {
        "name": name,
        "image": BASE,
        "imagePullPolicy": "Never",
        "command": ["python", "-c", code],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "envFrom": [{"secretRef": {"name": S3_SECRET}}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": SITE_CLAIM, "mountPath": SITE, "readOnly": True},
            {"name": SOURCE_CLAIM, "mountPath": SOURCE, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _claimed(name: str) -> dict[str, Any]:
    return {"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": True}}
