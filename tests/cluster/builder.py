"""buildah where it can run as root in a container, and the script behind `make images` with it.

No registry is asked for the images' base, `python:3.11-slim`. The Debian of the node's pods stands
in for it: without compiled modules, as there, and with pip from the environment of the tests.
"""

from __future__ import annotations

import ast
import configparser
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.node.build import Build
from tests.cluster.node.locks import exclusive
from tests.cluster.node.paths import ROOT, NodeError, cache_folder

_BASE = """\
FROM scratch
ADD layer.tar /
COPY pip /usr/lib/python3/dist-packages/pip
ENV PATH=/usr/local/bin:/usr/bin:/bin
"""
_COMPILED = "__pycache__"
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{kept}"
runroot = "{run}"
"""


@dataclass(frozen=True)
class Builder:
    """buildah with a storage of its own, for one process at a time."""

    environment: Mapping[str, str]

    def make(self, **variables: str) -> str:
        """Return what `make images` prints with these variables.

        Raises:
            NodeError: it fails; the message has its last lines.
        """
        return _output([str(ROOT / "images/build")], {**self.environment, **variables})

    def buildah(self, *words: str, text: str | None = None) -> str:
        """Return what buildah prints. Raises NodeError where it fails."""
        return _output(["buildah", *words], self.environment, text)

    def rename(self, image: str, name: str) -> None:
        """Give an image another name in place of its own."""
        self.buildah("tag", image, name)
        self.buildah("rmi", image)

    def run(self, image: str, *command: str) -> str:
        """Return what a command in a container of an image prints; it runs as root."""
        container = self.buildah("from", "--pull-never", image).strip()
        try:
            return self.buildah("run", container, "--", *command)
        finally:
            self.buildah("rm", container)


@contextmanager
def builder(build: Build) -> Iterator[Builder]:
    """Yield a builder that has the base and pip's settings; its layers stay in the cache."""
    kept = cache_folder() / "containers"
    with (
        exclusive(cache_folder() / "images.lock"),
        tempfile.TemporaryDirectory(prefix="hbseg-buildah-") as name,
    ):
        folder = Path(name)
        (folder / "storage.conf").write_text(_STORAGE.format(kept=kept, run=folder / "run"))
        environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
            **_pip_settings(folder),
        }
        base = _base(Builder(environment), build, folder)
        yield Builder(environment | {"BASE": base})


def base_key(build: Build) -> str:
    """Return a digest of what goes into the base."""
    return hashlib.sha256(build.key.encode() + Path(__file__).read_bytes()).hexdigest()[:16]


def _base(buildah: Builder, build: Build, folder: Path) -> str:
    """Return the name of the base, which buildah has now."""
    name = f"localhost/hbseg-python:{base_key(build)}"
    if buildah.buildah("images", "--quiet", "--filter", f"reference={name}"):
        return name
    context = folder / "base"
    pip = Path(sysconfig.get_paths()["purelib"]) / "pip"
    shutil.copytree(pip, context / "pip", ignore=shutil.ignore_patterns(_COMPILED))
    _write_layer(build.images[1], context / "layer.tar")
    buildah.buildah("build", "--quiet", "--tag", name, "--file", "-", str(context), text=_BASE)
    return name


def _write_layer(archive: Path, target: Path) -> None:
    """Write the one layer of an image's archive, without compiled modules."""
    with (
        tarfile.open(archive) as image,
        tarfile.open(fileobj=image.extractfile("layer.tar")) as source,
        tarfile.open(target, "w") as layer,
    ):
        for member in source:
            if _COMPILED not in member.name:
                layer.addfile(member, source.extractfile(member) if member.isreg() else None)


def _pip_settings(folder: Path) -> dict[str, str]:
    """Return the variables of `make images` that give pip this machine's settings."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = _output(command, os.environ).splitlines()
    file = configparser.RawConfigParser()
    file.add_section("global")
    for line in sorted(lines, reverse=True):  # `:env:` comes last, and counts
        name, _, value = line.partition("=")
        file["global"][name.rpartition(".")[2]] = str(ast.literal_eval(value))
    bundle = file["global"].get("cert", "")
    if bundle:
        file["global"]["cert"] = "/run/secrets/ca.crt"
    with (folder / "pip.conf").open("w") as target:
        file.write(target)
    return {"PIP_CONFIG_FILE": str(folder / "pip.conf"), "CA_BUNDLE": bundle}


def _output(command: list[str], environment: Mapping[str, str], text: str | None = None) -> str:
    done = subprocess.run(
        command, env=dict(environment), input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = " / ".join(done.stderr.strip().splitlines()[-3:])
        raise NodeError(f"{' '.join(command[:2])} failed: {last}")
    return done.stdout
