"""The backends by name."""

from __future__ import annotations

from pathlib import Path

from hbseg.control.waiting import Tell, say_nothing
from hbseg.errors import InvalidInput
from hbseg.runs.backend import Backend
from hbseg.runs.run import LOCAL

BACKENDS = ("kubernetes", "local")


def open_backend(
    name: str,
    *,
    state: Path | None = None,
    dies_with_parent: bool = False,
    namespace: str | None = None,
    context: str | None = None,
    tell: Tell = say_nothing,
) -> Backend:
    """Return the backend called `name`.

    `state` and `dies_with_parent` are for the local one; `namespace`, `context` and `tell`, which
    gets why a task waits while its logs are followed, are for the cluster.

    Raises:
        InvalidInput: there is no such backend, or the namespace is called as this machine is.
        UsageError: the kubeconfig cannot be used, or has no such context.
        UnreachableError: there is no kubeconfig.
    """
    match name:
        case "local":
            from hbseg.local.backend import LocalBackend

            return LocalBackend(state, dies_with_parent=dies_with_parent)
        case "kubernetes":
            from hbseg.cluster.backend import KubernetesBackend
            from hbseg.cluster.requests.client import Cluster

            cluster = Cluster.connect(namespace=namespace, context=context)
            if cluster.namespace == LOCAL:
                raise InvalidInput(
                    f"namespace {LOCAL} cannot be used: in a run's claim it means this machine",
                    "give another one: -n NAMESPACE",
                )
            return KubernetesBackend(cluster, tell=tell)
        case _:
            raise InvalidInput(
                f"backend {name!r:.60} is not known", f"use one of {', '.join(BACKENDS)}"
            )
