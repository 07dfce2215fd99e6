"""A mesh: the API server itself adds a sidecar to our pods, as an injector's webhook does.

It is a MutatingAdmissionPolicy, which needs no server of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.cluster import until
from tests.cluster.namespace import TestNamespace
from tests.cluster.pods import python_pod

SIDECAR = "istio-proxy"
PART_OF = {"app.kubernetes.io/part-of": "hbseg"}

_CODE = (
    "import os, signal\n"
    "signal.signal(signal.SIGTERM, lambda *_: os._exit(137))\n"
    "print('the proxy listens', flush=True)\n"
    "while True:\n"
    "    signal.pause()\n"
)
"""What the sidecar runs: it never ends by itself, and badly where it is ended."""
_API = "admissionregistration.k8s.io/v1"


@contextmanager
def mesh(namespace: TestNamespace, *, native: bool) -> Iterator[None]:
    """Give hbseg's pods of a namespace a sidecar while the context is open.

    A native one is an init container that keeps running; a plain one stands before ours.
    """
    cluster, name = namespace.cluster, namespace.name
    cluster.create(_policy(name, _expression(namespace, native=native)), _binding(name))
    try:
        until(lambda: _is_added(namespace), "the API server adds sidecars")
        yield
    finally:
        kinds = "mutatingadmissionpolicybinding,mutatingadmissionpolicy"
        cluster.kubectl("delete", kinds, name)


def _is_added(namespace: TestNamespace) -> bool:
    metadata = {"name": "try", "namespace": namespace.name, "labels": PART_OF}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    pod["spec"] = python_pod(namespace.ground, "")
    flags = ("--dry-run=server", "-o", "jsonpath={.spec}", "-f", "-")
    return SIDECAR in namespace.kubectl("create", *flags, input=json.dumps(pod))


def _policy(name: str, expression: str) -> dict[str, Any]:
    pods = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    return {
        "apiVersion": _API,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "objectSelector": {"matchLabels": PART_OF},
                "resourceRules": [pods],
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    }


def _binding(namespace: str) -> dict[str, Any]:
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    spec = {"policyName": namespace, "matchResources": {"namespaceSelector": here}}
    return {
        "apiVersion": _API,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": namespace},
        "spec": spec,
    }


def _expression(namespace: TestNamespace, *, native: bool) -> str:
    """Return the patch, in the API server's expression language."""
    path = "initContainers" if native else "containers"
    kind = f"Object.spec.{path}"
    profile = namespace.ground.profile
    values = {
        "name": json.dumps(SIDECAR),
        "image": json.dumps(profile["image"]),
        "imagePullPolicy": json.dumps(profile.get("image_pull_policy", "IfNotPresent")),
        "command": json.dumps(["python", "-c", _CODE]),
        "securityContext": (
            f"{kind}.securityContext{{allowPrivilegeEscalation: false, "
            f'capabilities: {kind}.securityContext.capabilities{{drop: ["ALL"]}}}}'
        ),
    }
    if native:
        values["restartPolicy"] = json.dumps("Always")
    sidecar = f"{kind}{{{', '.join(f'{key}: {value}' for key, value in values.items())}}}"
    added = f'JSONPatch{{op: "add", path: "/spec/{path}/0", value: {sidecar}}}'
    none_yet = f'JSONPatch{{op: "add", path: "/spec/{path}", value: []}}'
    return f"[{none_yet}, {added}]" if native else f"[{added}]"
