"""The connection to the cluster of a kubeconfig's context.

The one module that imports the official `kubernetes` package, which reads kubeconfigs, runs their
credential plugins and sets up TLS and proxies. Any exception can come from there, and each becomes
an error of one line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hbseg.cluster.requests.api_errors import one_line
from hbseg.cluster.requests.transport import Transport
from hbseg.errors import UsageError


def paths() -> str:
    """Return the files of the kubeconfig as KUBECONFIG lists them, else `~/.kube/config`."""
    return os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")


def exists() -> bool:
    """Return whether one of the kubeconfig's files exists."""
    return any(Path(path).exists() for path in paths().split(os.pathsep) if path)


def connected(context: str | None) -> tuple[Transport, str | None]:
    """Return the connection to a context's cluster, and the context's namespace.

    None takes the current context.

    Raises:
        UsageError: the kubeconfig cannot be used, or has no such context; or the `kubernetes`
            package is not installed.
    """
    files = paths()
    try:
        from kubernetes.client import Configuration
        from kubernetes.client.rest import RESTClientObject
    except ModuleNotFoundError:
        raise UsageError(
            f"the kubeconfig {files} needs the package kubernetes, which is not installed",
            "run: pip install kubernetes",
        ) from None

    configuration = Configuration()
    found = _read(files, context, configuration)
    if not str(configuration.host).startswith(("http://", "https://")):
        raise UsageError(
            f"{files} has no URL of a cluster: {configuration.host!r:.100}", "correct its server"
        )
    try:
        pool = RESTClientObject(configuration).pool_manager
    except Exception as error:  # unreadable certificates, a malformed proxy
        raise UsageError(f"{files} cannot be used: {one_line(str(error))[:300]}") from None

    def headers() -> dict[str, str]:
        token = configuration.auth_settings().get("BearerToken")
        return {"Authorization": str(token["value"])} if token else {}

    return Transport(pool, configuration.host, headers), found


def _read(files: str, context: str | None, configuration: Any) -> str | None:
    """Put a context of the kubeconfig into `configuration`; return the context's namespace."""
    from kubernetes.config.kube_config import load_kube_config

    try:
        contexts, current = _contexts(files)
    except Exception as error:
        raise UsageError(
            f"kubeconfig {files} cannot be used: {one_line(str(error))[:300]}",
            "set KUBECONFIG to a valid one",
        ) from None
    names = [str(item["name"]) for item in contexts]
    there = f"contexts there: {', '.join(names)}"
    wanted = context or current
    if not wanted:
        raise UsageError(f"{files} has no current context; {there}", "give --context")
    if wanted not in names:
        raise UsageError(f"no context {wanted} in {files}; {there}")
    try:
        load_kube_config(  # type: ignore[no-untyped-call]
            files, context=wanted, client_configuration=configuration
        )
    except Exception as error:
        raise UsageError(
            f"context {wanted} of {files} cannot be used: {one_line(str(error))[:300]}",
            "set KUBECONFIG to a valid one, or choose another --context",
        ) from None
    chosen = contexts[names.index(wanted)]["context"]
    return chosen.get("namespace") or None


def _contexts(files: str) -> tuple[list[Any], str]:
    """Return the contexts and the name of the current one, which may be empty."""
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import KubeConfigMerger

    config = KubeConfigMerger(files).config  # type: ignore[no-untyped-call]
    if config is None:
        raise ConfigException("no configuration found")
    contexts = [item.value for item in config["contexts"]]
    if not contexts:
        raise ConfigException("it has no contexts")
    return contexts, str(config.safe_get("current-context") or "")
