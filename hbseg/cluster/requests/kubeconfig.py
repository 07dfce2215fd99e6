"""The way to a cluster: a kubeconfig's context, or the service account of the pod we are in.

The one module that imports the official package; foreign code of all kinds runs here (credential
plugins, YAML, TLS), so whatever it raises becomes one sentence.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hbseg.cluster.requests.api_errors import one_line
from hbseg.cluster.requests.transport import Transport
from hbseg.errors import UnreachableError, UsageError

SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connected(context: str | None) -> tuple[Transport, str | None]:
    """Return the way to the cluster, and the namespace that its configuration names.

    Raises:
        UsageError: the kubeconfig cannot be used, or has no such context.
        UnreachableError: there is no kubeconfig, and this is no pod.
    """
    from kubernetes.client import Configuration
    from kubernetes.client.rest import RESTClientObject
    from kubernetes.config import ConfigException
    from kubernetes.config.incluster_config import load_incluster_config

    configuration = Configuration()
    paths = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if any(Path(path).exists() for path in paths.split(os.pathsep) if path):
        found = _read_kubeconfig(paths, context, configuration)
    else:
        try:
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        except ConfigException:
            raise UnreachableError(
                f"no cluster: there is no kubeconfig at {paths}, and this is no pod",
                "set KUBECONFIG, or use --backend local (HBSEG_BACKEND=local)",
            ) from None
        if context is not None:
            raise UsageError(f"--context {context}: a pod has no contexts")
        found = _namespace_of_the_pod()
    if not str(configuration.host).startswith(("http://", "https://")):
        raise UsageError(f"{paths} names no URL of a cluster: {configuration.host!r:.100}")
    try:
        pool = RESTClientObject(configuration).pool_manager
    except Exception as error:  # certificates that cannot be read, a proxy that is none
        raise UsageError(f"{paths} cannot be used: {one_line(str(error))[:300]}") from None

    def headers() -> dict[str, str]:
        token = configuration.auth_settings().get("BearerToken")
        return {"Authorization": str(token["value"])} if token else {}

    return Transport(pool, configuration.host, headers), found


def _read_kubeconfig(paths: str, context: str | None, configuration: Any) -> str | None:
    """Put a context of the kubeconfig into `configuration`; return the context's namespace."""
    from kubernetes.config.kube_config import load_kube_config

    try:
        contexts, current = _contexts(paths)
    except Exception as error:
        raise UsageError(
            f"kubeconfig {paths} cannot be used: {one_line(str(error))[:300]}",
            "set KUBECONFIG to a valid one",
        ) from None
    names = [str(item["name"]) for item in contexts]
    there = f"contexts there: {', '.join(names)}"
    wanted = context or current
    if not wanted:
        raise UsageError(f"{paths} has no current context; {there}", "give --context")
    if wanted not in names:
        raise UsageError(f"no context {wanted} in {paths}; {there}")
    try:
        load_kube_config(  # type: ignore[no-untyped-call]
            paths, context=wanted, client_configuration=configuration
        )
    except Exception as error:
        raise UsageError(
            f"context {wanted} of {paths} cannot be used: {one_line(str(error))[:300]}",
            "set KUBECONFIG to a valid one, or choose another --context",
        ) from None
    chosen = contexts[names.index(wanted)]["context"]
    return chosen.get("namespace") or None


def _contexts(paths: str) -> tuple[list[Any], str]:
    """Return the contexts, and the name of the current one; empty where there is none."""
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import KubeConfigMerger

    config = KubeConfigMerger(paths).config  # type: ignore[no-untyped-call]
    if config is None:
        raise ConfigException("no configuration found")
    contexts = [item.value for item in config["contexts"]]
    if not contexts:
        raise ConfigException("it has no contexts")
    return contexts, str(config.safe_get("current-context") or "")


def _namespace_of_the_pod() -> str | None:
    try:
        return SERVICE_ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
