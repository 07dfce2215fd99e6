"""The control image of this checkout, really built, and loaded into the tests' node.

An archive of it is kept in the cache, named by the digest of all that went into it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.builder import base_key, builder
from tests.cluster.node.build import Build
from tests.cluster.node.lease import Node
from tests.cluster.node.locks import exclusive
from tests.cluster.node.paths import ROOT, cache_folder

REPOSITORY = "localhost/hbseg-control"

_INPUTS = (
    ".dockerignore",
    "LICENSE",
    "README.md",
    "cli",
    "constraints.txt",
    "hbseg",
    "images/build",
    "images/control.Dockerfile",
    "images/requirements.py",
    "jobs",
    "manifests",
    "pyproject.toml",
)
_KEPT = 4
"""Archives that stay in the cache: people work in several checkouts."""


def loaded(node: Node) -> str:
    """Return the reference of the control image, which the node has now.

    Raises:
        NodeError: it cannot be built.
    """
    archive = ensured(node.build)
    reference = f"{REPOSITORY}:{archive.stem}"
    with exclusive(cache_folder() / "images.lock"):
        listed = subprocess.check_output(node.containerd("images", "list", "-q"), text=True)
        if reference not in listed.splitlines():
            command = node.containerd("images", "import", str(archive))
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return reference


def ensured(build: Build) -> Path:
    """Return the archive of the control image; build it where the cache does not have it yet.

    Raises:
        NodeError: the build fails.
    """
    archive = cache_folder() / "images" / f"{_key(build)}.tar"
    if not archive.is_file():
        _build(build, archive)
    return archive


def _key(build: Build) -> str:
    digest = hashlib.sha256(base_key(build).encode())
    for path in sorted(_inputs()):
        digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _inputs() -> Iterator[Path]:
    for name in _INPUTS:
        place = ROOT / name
        found = place.rglob("*") if place.is_dir() else [place]
        yield from (p for p in found if p.is_file() and "__pycache__" not in p.parts)


def _build(build: Build, archive: Path) -> None:
    """Build it, but not where another process just did."""
    with builder(build) as buildah:
        if archive.is_file():
            return
        print("building the control image", file=sys.stderr)
        archive.parent.mkdir(exist_ok=True)
        made = buildah.make(REGISTRY="localhost", IMAGES="control").split()[-1]
        reference = f"{REPOSITORY}:{archive.stem}"
        buildah.rename(made, reference)  # the archive has all names
        with tempfile.TemporaryDirectory(dir=archive.parent) as work:
            buildah.buildah("push", "--quiet", reference, f"docker-archive:{work}/image.tar")
            os.rename(f"{work}/image.tar", archive)
    _remove_old(archive.parent)


def _remove_old(folder: Path) -> None:
    archives = sorted(folder.glob("*.tar"), key=lambda path: path.stat().st_mtime)
    for old in archives[:-_KEPT]:
        old.unlink(missing_ok=True)
