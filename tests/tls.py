"""A certificate authority of a test's own, and servers' certificates by it."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_NEW = ("openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec")
_CURVE = ("-pkeyopt", "ec_paramgen_curve:prime256v1")


@dataclass(frozen=True)
class Authority:
    """An authority, with its files in a folder of its own."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        """Make one in `folder`."""
        made = cls(folder)
        own = ("-subj", "/CN=test authority", "-addext", "keyUsage=critical,keyCertSign")
        _openssl(*own, "-keyout", str(folder / "ca.key"), "-out", str(made.certificate))
        return made

    @property
    def certificate(self) -> Path:
        """PEM file that clients need to trust its servers."""
        return self.folder / "ca.pem"

    def server(self, address: str = "127.0.0.1") -> ssl.SSLContext:
        """Return the side of a server at an IP address."""
        key, certificate = self.folder / f"{address}.key", self.folder / f"{address}.pem"
        _openssl(
            *("-CA", str(self.certificate), "-CAkey", str(self.folder / "ca.key")),
            *("-subj", f"/CN={address}", "-addext", f"subjectAltName=IP:{address}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-keyout", str(key), "-out", str(certificate)),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


def _openssl(*arguments: str) -> None:
    subprocess.run([*_NEW, *_CURVE, *arguments], check=True, capture_output=True)
