"""Pods that a `restricted` namespace takes, with what the ground gives to all pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hbseg.cluster.pods.template import complete_pod, set_variables
from hbseg.config.profile import ClusterProfile
from tests.cluster.ground import Ground


def python_pod(
    ground: Ground,
    code: str,
    *,
    container: str = "python",
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the `spec` of a pod that runs `code` once, as a user who may write to /tmp only."""
    profile = ClusterProfile.model_validate({**ground.profile, "spread_over": None})
    template: dict[str, Any] = {
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(container, code, profile.image or "")],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }
    }
    complete_pod(template, profile, {})
    spec: dict[str, Any] = template["spec"]
    set_variables(spec["containers"][0], dict(environment or {}))
    return spec


def pytorch_job(name: str, pod: dict[str, Any]) -> dict[str, Any]:
    """Return a PyTorchJob of one pod."""
    master = {"replicas": 1, "restartPolicy": "Never", "template": {"spec": pod}}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": name},
        "spec": {"pytorchReplicaSpecs": {"Master": master}},
    }


def _container(name: str, code: str, image: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "command": ["python", "-c", code],
        "env": [],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
