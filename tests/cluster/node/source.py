"""Our own packages as a wheel would install them, staged for pods."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.cluster.node.paths import ROOT

PACKAGES = {
    "hbseg": "hbseg",
    "hbseg_cli": "cli/hbseg_cli",
    "hbseg_jobs": "jobs/hbseg_jobs",
    "hbseg_manifests": "manifests",
    "tests": "tests",
}
"""Where each package lies in the repository. The tests bring the fake steps."""


def staged(folder: Path) -> str:
    """Return the name, below `folder`, of a copy of the packages as they are now.

    The name is the digest of the content: a copy never changes, and equal ones are made once.
    """
    files = sorted(_files())
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    target = folder / digest.hexdigest()[:16]
    if not target.is_dir():
        _copy(files, target)
    return target.name


def _files() -> Iterator[tuple[str, Path]]:
    """Yield each file's place in the copy, and where it is now."""
    for package, place in PACKAGES.items():
        top = ROOT / place
        for folder, names, files in os.walk(top):
            names[:] = [name for name in names if name != "__pycache__"]
            for file in files:
                path = Path(folder) / file
                yield f"{package}/{path.relative_to(top)}", path


def _copy(files: list[tuple[str, Path]], target: Path) -> None:
    """Copy for everybody to read, whatever our own file modes are; another's copy is as good."""
    work = Path(tempfile.mkdtemp(dir=target.parent))
    for name, path in files:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, work / name)
    for folder, _, names in os.walk(work):
        os.chmod(folder, 0o755)
        for name in names:
            os.chmod(Path(folder) / name, 0o644)
    with suppress(OSError):
        os.rename(work, target)
    shutil.rmtree(work, ignore_errors=True)
