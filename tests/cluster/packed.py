"""What `Dockerfile` makes, without a builder and a registry: an image for our node.

On the node's base image lies one layer: the packages of the interpreter that runs the tests, and
our own. torch's libraries for NVIDIA's GPUs are the bulk of it, about 2 GB of 4, and torch does not
start without them; those that it does not load are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.node import source
from tests.cluster.node.lease import Node

IMAGE = "localhost/hbseg-tests:dev"

_PLACE = "opt/hbseg"
_BASE, _PACKAGES = "base.tar", "packages.tar"
_CONFIGURATION, _MANIFEST = "config.json", "manifest.json"
_LOADED_ONLY = ("nvidia", "triton")
"""Packages of which torch needs only what it loads when it is imported."""
_MAPS_WITH_TORCH = "import torch; print(open('/proc/self/maps').read())"


@contextmanager
def packed_image(node: Node, work: Path) -> Iterator[str]:
    """Yield the name of the image, which the node has while the context is open.

    It takes about 4 GB of `work`, and twice that of the node, whose disk is memory.
    """
    _write_layer(work / _PACKAGES, work)
    configuration = _base_configuration(node.build.images[1], work)
    configuration["rootfs"]["diff_ids"].append(f"sha256:{_sha256(work / _PACKAGES)}")
    configuration["config"]["Env"].append(f"PYTHONPATH=/{_PLACE}")
    manifest = {"Config": _CONFIGURATION, "RepoTags": [IMAGE], "Layers": [_BASE, _PACKAGES]}
    (work / _CONFIGURATION).write_text(json.dumps(configuration))
    (work / _MANIFEST).write_text(json.dumps([manifest]))
    by_id = f"sha256:{_sha256(work / _CONFIGURATION)}"  # the name that the kubelet gives it
    _import(node, work)
    try:
        yield IMAGE
    finally:
        command = node.containerd("images", "rm", "--sync", IMAGE, by_id)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def _write_layer(layer: Path, work: Path) -> None:
    own = work / source.staged(work)
    site = Path(sysconfig.get_paths()["purelib"]).resolve()
    with tarfile.open(layer, "w") as archive:
        for folder, files in ((site, _needed(site)), (own, _files(own))):
            for path in files:
                name = f"{_PLACE}/{path.relative_to(folder)}"
                archive.add(path, name, filter=_for_everybody)


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files, compiled modules too: pods could not keep what they compile."""
    for place, _, files in os.walk(folder):
        yield from (Path(place) / file for file in files)


def _needed(site: Path) -> Iterator[Path]:
    """Yield the files of installed packages, without libraries that nothing loads on a CPU."""
    command = [sys.executable, "-c", _MAPS_WITH_TORCH]
    maps = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    loaded = {Path(line.split(maxsplit=5)[-1]) for line in maps.splitlines() if line}
    for path in _files(site):
        if path.relative_to(site).parts[0] not in _LOADED_ONLY or path in loaded:
            yield path


def _for_everybody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return a member that root owns and anybody reads, whatever our own file modes are."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member


def _base_configuration(base: Path, work: Path) -> dict[str, Any]:
    """Put the layer of the base image's archive into `work`; return its configuration."""
    with tarfile.open(base) as archive:
        archive.extract("layer.tar", work, filter="data")
        (work / "layer.tar").rename(work / _BASE)
        content = archive.extractfile("config.json")
        assert content
        configuration: dict[str, Any] = json.load(content)
    return configuration


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _import(node: Node, work: Path) -> None:
    """Send the node an archive in Docker's format, which is never whole on the disk."""
    members = (_CONFIGURATION, _BASE, _PACKAGES, _MANIFEST)
    with subprocess.Popen(["tar", "-C", str(work), "-c", *members], stdout=subprocess.PIPE) as tar:
        command = node.containerd("images", "import", "-")
        subprocess.run(command, stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)
