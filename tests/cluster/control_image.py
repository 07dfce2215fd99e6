"""The control image of `images/control.Dockerfile`, built by `make images`'s script with buildah.

No registry is asked for its base: the node's Debian with Python stands in for it, and has pip from
the environment of the tests. An archive of the image is kept beside the node's build, named by the
digest of all that went into it.
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
from pathlib import Path

from tests.cluster.node.build import Build
from tests.cluster.node.lease import Node
from tests.cluster.node.locks import exclusive
from tests.cluster.node.paths import ROOT, NodeError, cache_folder

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
_BASE = """\
FROM scratch
ADD layer.tar /
COPY pip /usr/lib/python3/dist-packages/pip
ENV PATH=/usr/local/bin:/usr/bin:/bin
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{kept}"
runroot = "{run}"
"""
_KEPT = 4
"""Archives that stay: one for each checkout that is worked in."""


def loaded(node: Node) -> str:
    """Return the reference of the control image of this checkout; the node has it now.

    Raises:
        NodeError: it cannot be built.
    """
    archive = ensured(node.build)
    reference = f"{REPOSITORY}:{archive.stem}"
    with exclusive(cache_folder() / "images.lock"):
        listed = subprocess.check_output(node.containerd("images", "list", "-q"), text=True)
        if reference not in listed.splitlines():
            command = node.containerd("images", "import", "-")
            with archive.open("rb") as image:
                subprocess.run(command, stdin=image, stdout=subprocess.DEVNULL, check=True)
    return reference


def ensured(build: Build) -> Path:
    """Return the archive of the control image; build it where the cache does not have it yet.

    Raises:
        NodeError: the build fails; the message has its last line.
    """
    archive = cache_folder() / "images" / f"{_key(build)}.tar"
    if not archive.is_file():
        with exclusive(cache_folder() / "images.lock"):
            if not archive.is_file():
                _build(build, archive)
    return archive


def _key(build: Build) -> str:
    digest = hashlib.sha256(_base_key(build).encode())
    for path in sorted(_inputs()):
        digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _base_key(build: Build) -> str:
    return hashlib.sha256(build.key.encode() + Path(__file__).read_bytes()).hexdigest()[:16]


def _inputs() -> Iterator[Path]:
    for name in _INPUTS:
        place = ROOT / name
        found = place.rglob("*") if place.is_dir() else [place]
        yield from (p for p in found if p.is_file() and "__pycache__" not in p.parts)


def _build(build: Build, archive: Path) -> None:
    archive.parent.mkdir(exist_ok=True)
    print("building the control image (seconds; a minute the first time)", file=sys.stderr)
    with builder() as environment, tempfile.TemporaryDirectory(dir=archive.parent) as work:
        environment |= pip_settings(Path(work)) | {"BASE": base(build, environment, Path(work))}
        printed = run_build(environment, REGISTRY="localhost", IMAGES="control")
        made, reference = Path(work) / archive.name, f"{REPOSITORY}:{archive.stem}"
        _run(["buildah", "tag", printed.split()[-1], reference], environment)
        _run(["buildah", "rmi", printed.split()[-1]], environment)  # the name, not the image
        _run(["buildah", "push", "--quiet", reference, f"docker-archive:{made}"], environment)
        os.rename(made, archive)
    others = sorted(archive.parent.glob("*.tar"), key=lambda path: path.stat().st_mtime)
    for old in others[:-_KEPT]:
        old.unlink()


def run_build(environment: Mapping[str, str], **variables: str) -> str:
    """Return what `images/build` prints.

    Raises:
        NodeError: it fails; the message has its last line.
    """
    return _run([str(ROOT / "images/build")], {**environment, **variables})


@contextmanager
def builder() -> Iterator[dict[str, str]]:
    """Yield an environment in which buildah works inside a container, with a storage of its own.

    Its layers stay in the cache. Only one process may have it at a time.
    """
    kept = cache_folder() / "containers"
    kept.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hbseg-buildah-") as folder:
        storage = Path(folder) / "storage.conf"
        storage.write_text(_STORAGE.format(kept=kept, run=f"{folder}/run"))
        yield {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(storage),
            "BUILDAH_ISOLATION": "chroot",
        }


def base(build: Build, environment: Mapping[str, str], work: Path) -> str:
    """Return the name of the base image, which is in buildah's storage."""
    name = f"localhost/hbseg-python:{_base_key(build)}"
    if _run(["buildah", "images", "--quiet", "--filter", f"reference={name}"], environment):
        return name
    context = work / "base"
    with tarfile.open(build.images[1]) as archive:
        archive.extract("layer.tar", context, filter="data")
    shutil.copytree(Path(sysconfig.get_paths()["purelib"]) / "pip", context / "pip")
    command = ["buildah", "build", "--quiet", "--tag", name, "--file", "-", str(context)]
    _run(command, environment, _BASE)
    return name


def pip_settings(folder: Path) -> dict[str, str]:
    """Return the variables of `images/build` that give pip in the build this machine's settings."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = sorted(_run(command, os.environ).splitlines(), reverse=True)  # the environment last
    file = configparser.RawConfigParser()
    file.read_dict({"global": {}})
    for line in lines:
        name, _, value = line.partition("=")
        file["global"][name.rpartition(".")[2]] = str(ast.literal_eval(value))
    bundle = file["global"].get("cert")
    if bundle:
        file["global"]["cert"] = "/run/secrets/ca.crt"
    with (folder / "pip.conf").open("w") as target:
        file.write(target)
    return {"PIP_CONFIG_FILE": str(folder / "pip.conf"), "CA_BUNDLE": bundle or ""}


def _run(command: list[str], environment: Mapping[str, str], text: str | None = None) -> str:
    done = subprocess.run(
        command, env=dict(environment), input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = " / ".join(done.stderr.strip().splitlines()[-3:])
        raise NodeError(f"{' '.join(command[:2])} failed: {last}")
    return done.stdout
