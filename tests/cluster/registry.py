"""A registry of images on this machine, for one test: Debian's docker-registry."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from tests.cluster.cluster import until

_CONFIGURATION = """\
version: 0.1
log: {{accesslog: {{disabled: true}}, level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "{host}"}}
"""
_WITHOUT_TLS = """\
[[registry]]
location = "{host}"
insecure = true
"""
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Registry:
    """A registry that listens on the loopback."""

    host: str
    """Its address, as it begins the names of its images."""
    configuration: Path
    """A `registries.conf` that lets builders reach it without TLS."""

    def layers(self, reference: str) -> list[str]:
        """Return the digests of an image's layers, by a reference with a digest."""
        return [layer["digest"] for layer in self._manifest(reference)["layers"]]

    def configuration_of(self, reference: str) -> dict[str, Any]:
        """Return what an image says of its containers: `User`, `Labels` and so on."""
        digest = self._manifest(reference)["config"]["digest"]
        name = reference.partition("@")[0]
        found: dict[str, Any] = self._json(f"{name}@{digest}", "blobs")["config"]
        return found

    def _manifest(self, reference: str) -> dict[str, Any]:
        return self._json(reference, "manifests")

    def _json(self, reference: str, kind: str) -> dict[str, Any]:
        name, _, digest = reference.removeprefix(f"{self.host}/").partition("@")
        url = f"http://{self.host}/v2/{name}/{kind}/{digest}"
        answer = urllib3.request("GET", url, headers={"Accept": _MANIFEST})
        assert answer.status == 200, answer.data
        found: dict[str, Any] = json.loads(answer.data)
        return found


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Yield a registry that answers and keeps its images in `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "config.yml").write_text(_CONFIGURATION.format(folder=folder, host=host))
    configuration = folder / "registries.conf"
    configuration.write_text(_WITHOUT_TLS.format(host=host))
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: _answers(host), "the registry answers")
            yield Registry(host, configuration)
        finally:
            server.terminate()


def _answers(host: str) -> bool:
    try:
        return urllib3.request("GET", f"http://{host}/v2/", retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False
