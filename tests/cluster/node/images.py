"""Images as files that containerd imports, made without a builder.

An archive in Docker's format is a tar of three things: the layers, a configuration that lists
their digests, and a manifest that names the tags.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.node.paths import NodeError
from tests.cluster.node.requirements import search_path

PAUSE = "localhost/hbseg-pause:dev"
BASE = "localhost/hbseg-base:dev"
OPERATOR_INIT = "docker.io/library/alpine:3.10"
"""What the training operator's init container asks for, to wait until a name resolves."""

_SUITE = "bookworm"
_PACKAGES = "ca-certificates,python3,python-is-python3"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_UNUSED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale")
# The operator's init container calls nslookup. Busybox's fails as soon as one search domain has
# no such name, so that it would wait for ever.
_NSLOOKUP = '#!/bin/sh\nexec getent ahostsv4 "$1"\n'


def write_pause_image(program: Path, archive: Path, work: Path) -> None:
    """Write the image that holds a pod's namespaces; `program` never returns by itself."""
    root = work / "pause-root"
    root.mkdir()
    shutil.copy(program, root / "pause")
    _write_archive(root, archive, [PAUSE], entrypoint=["/pause"])


def write_base_image(archive: Path, work: Path) -> None:
    """Write a minimal Debian with python3, which stands in for the operator's init image too.

    Raises:
        NodeError: debootstrap is missing or fails.
    """
    root = work / "base-root"
    _install_debian(root, work / "debootstrap.log")
    for folder in _UNUSED:
        shutil.rmtree(root / folder, ignore_errors=True)
    nslookup = root / "usr/local/bin/nslookup"
    nslookup.write_text(_NSLOOKUP)
    nslookup.chmod(0o755)
    _write_archive(root, archive, [BASE, OPERATOR_INIT])


def _install_debian(root: Path, log_path: Path) -> None:
    program = shutil.which("debootstrap", path=search_path())
    if not program:
        raise NodeError("the test cluster needs debootstrap; run: .ci/setup dev, as root")
    command = [program, "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root)]
    with log_path.open("wb") as log:
        status = subprocess.call(
            [*command, *_mirror()],
            env={**os.environ, "PATH": search_path()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    if status:
        last = " / ".join(log_path.read_text(errors="replace").splitlines()[-3:])
        raise NodeError(f"debootstrap failed with status {status}: {last}")


def _mirror() -> list[str]:
    """Return the first Debian mirror that apt uses on this machine; none where it names none."""
    apt = Path("/etc/apt")
    for sources in sorted(apt.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", sources.read_text()):
            fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(\S+)", stanza, re.MULTILINE))
            if fields.get("Suites", "").startswith(_SUITE) and "URIs" in fields:
                return [fields["URIs"]]
    one_line = re.compile(rf"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+{_SUITE}\s", re.MULTILINE)
    for sources in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]:
        found = one_line.search(sources.read_text()) if sources.exists() else None
        if found:
            return [found[1]]
    return []


def _write_archive(
    root: Path, archive: Path, tags: Sequence[str], entrypoint: Sequence[str] = ()
) -> None:
    layer = archive.with_suffix(".layer")
    subprocess.run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(layer), "."], check=True)
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    configuration = {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Env": [f"PATH={_PATH}"], "Entrypoint": list(entrypoint) or None},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": list(tags), "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as image:
        image.add(layer, "layer.tar")
        _add_json(image, "config.json", configuration)
        _add_json(image, "manifest.json", manifest)
    layer.unlink()


def _add_json(image: tarfile.TarFile, name: str, content: object) -> None:
    data = json.dumps(content).encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    image.addfile(member, io.BytesIO(data))
