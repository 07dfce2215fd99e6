"""Keys and certificates of one start of the node, made by openssl; none outlives it."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.node.addresses import NODE, NODE_ADDRESS, SERVICE_ADDRESS

_DAYS = "30"
_SERVER_NAMES = ",".join(
    [
        *(f"IP:{address}" for address in ("127.0.0.1", NODE_ADDRESS, SERVICE_ADDRESS)),
        *(
            f"DNS:{name}"
            for name in (
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            )
        ),
    ]
)
# A certificate of the node's kubelet serves both ways. Strict clients want the usages named.
_EXTENSIONS = """\
basicConstraints=CA:FALSE
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
keyUsage=digitalSignature,keyEncipherment
extendedKeyUsage=clientAuth,serverAuth
"""
CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "apiserver-kubelet": "/O=system:masters/CN=kube-apiserver-kubelet-client",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-proxy": "/CN=system:kube-proxy",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE}",
}
"""Who talks to the API server, and as whom: Kubernetes' own roles know these names."""


@dataclass(frozen=True)
class Authority:
    """A folder of keys and of certificates by one authority."""

    folder: Path

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt"


def write_certificates(folder: Path) -> Authority:
    """Write all keys and certificates of the node into `folder`."""
    authority = Authority(folder)
    folder.mkdir(mode=0o700, parents=True)
    _write_authority(authority)
    _sign(authority, "kube-apiserver", "/CN=kube-apiserver", _SERVER_NAMES)
    for name, subject in CLIENTS.items():
        _sign(authority, name, subject)
    _write_service_account_keys(authority)
    return authority


def _write_authority(authority: Authority) -> None:
    _write_key(authority.key("ca"))
    _openssl(
        *("req", "-x509", "-new", "-key", str(authority.key("ca")), "-subj", "/CN=hbseg-test-ca"),
        *("-days", _DAYS, "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
        *("-out", str(authority.certificate("ca"))),
    )


def _sign(authority: Authority, name: str, subject: str, alternative_names: str = "") -> None:
    _write_key(authority.key(name))
    names = f"subjectAltName={alternative_names}\n" if alternative_names else ""
    extensions = authority.folder / f"{name}.ext"
    extensions.write_text(_EXTENSIONS + names)
    request = _openssl("req", "-new", "-key", str(authority.key(name)), "-subj", subject)
    _openssl(
        *("x509", "-req", "-CA", str(authority.certificate("ca"))),
        *("-CAkey", str(authority.key("ca")), "-set_serial", str(secrets.randbits(63))),
        *("-days", _DAYS, "-extfile", str(extensions)),
        *("-out", str(authority.certificate(name))),
        request=request,
    )


def _write_service_account_keys(authority: Authority) -> None:
    """Write the pair that signs the tokens of ServiceAccounts."""
    private, public = authority.key("service-account"), authority.folder / "service-account.pub"
    _openssl("genrsa", "-traditional", "-out", str(private), "2048")
    _openssl("rsa", "-in", str(private), "-pubout", "-out", str(public))


def _write_key(path: Path) -> None:
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path))


def _openssl(*arguments: str, request: str | None = None) -> str:
    command: Sequence[str] = ["openssl", *arguments]
    finished = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    return finished.stdout
