"""A pod's view of its cluster: an API by HTTPS with its own authority, and a service account."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.unit.cluster.fake_api import FakeApi


@dataclass(frozen=True)
class Authority:
    """A certificate for 127.0.0.1 that is its own authority."""

    key: Path
    certificate: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        made = cls(folder / "key.pem", folder / "ca.pem")
        command = [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
        ]
        subprocess.run(command, check=True, capture_output=True)
        return made

    def api(self) -> FakeApi:
        """Return an API that has this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return FakeApi(tls=context)


def write_service_account(folder: Path, authority: Authority) -> Path:
    """Write what the kubelet puts into a pod: token, namespace and authority."""
    folder.mkdir()
    (folder / "token").write_text("first\n")
    (folder / "namespace").write_text("hands")
    (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
    return folder


def pod_environment(api: FakeApi, home: Path) -> dict[str, str]:
    """Return the environment of a pod, which has no kubeconfig."""
    host, port = api.url.removeprefix("https://").split(":")
    return {
        "KUBECONFIG": str(home / "none"),
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
    }
