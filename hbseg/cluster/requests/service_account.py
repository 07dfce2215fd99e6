"""The connection of a pod to its own cluster: the service account's token and authority.

It needs urllib3 only, so an image without the `kubernetes` package can use it. No proxy of the
environment is used: the API server's address is inside the cluster.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from hbseg.cluster.requests.api_errors import one_line
from hbseg.cluster.requests.transport import Transport
from hbseg.errors import DeniedError, UsageError

FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts `token`, `ca.crt` and `namespace`."""
MAX_KEPT = 16
"""Connections that are kept open: one for each watched kind, and some for other requests."""


def in_pod() -> bool:
    """Return whether this is a pod: each has the API server's address in its environment."""
    return _server() != ""


def connected(context: str | None) -> tuple[Transport, str | None]:
    """Return the connection to the cluster of this pod, and the pod's namespace.

    Raises:
        UsageError: a context was asked for.
        DeniedError: the pod's token or authority cannot be read.
    """
    from urllib3 import PoolManager

    if context is not None:
        raise UsageError(f"--context {context}: a pod has no contexts", "leave it out")
    try:
        _headers()
        pool = PoolManager(maxsize=MAX_KEPT, ssl_context=_authority())
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        raise DeniedError(
            f"the pod's service account in {FOLDER} cannot be used: {one_line(str(error))[:300]}",
            "set automountServiceAccountToken: true on the pod",
        ) from None
    return Transport(pool, _server(), _headers), _namespace()


def _server() -> str:
    """Return the API server's URL; empty outside of a pod."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    port = os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        return ""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _headers() -> dict[str, str]:
    # The kubelet replaces the token well before its end. Reading it takes 20 us.
    return {"Authorization": f"Bearer {(FOLDER / 'token').read_text(encoding='ascii').strip()}"}


def _authority() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=FOLDER / "ca.crt")


def _namespace() -> str | None:
    try:
        return (FOLDER / "namespace").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
