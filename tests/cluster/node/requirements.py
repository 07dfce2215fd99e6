"""What the node needs of the machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.cluster.node.paths import NodeError

IMAGE_PYTHON = (3, 11)
"""Python of the base image, Debian 12's: pods use the packages of our own virtual environment."""
PROGRAMS = {
    "buildah": "buildah",
    "docker-registry": "docker-registry",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "unshare": "util-linux",
    "setsid": "util-linux",
}
"""Programs of the node and of the tests of images, and the Debian package of each."""
PLUGINS = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins are."""
_ADMIN = 21  # CAP_SYS_ADMIN, capability(7)


def obstacle() -> str | None:
    """Return why no node can run on this machine whatever is installed; none where it can."""
    if sys.platform != "linux":
        return f"the test cluster's node needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "the test cluster's node needs root"
    if not _effective_capabilities() >> _ADMIN & 1:
        return "the test cluster's node needs CAP_SYS_ADMIN, which this container lacks"
    if not os.access("/sys/fs/cgroup/memory", os.W_OK):
        return "the test cluster's node needs cgroup v1 (alone or hybrid), writable"
    if sys.version_info[:2] != IMAGE_PYTHON:
        mine, theirs = (".".join(map(str, v)) for v in (sys.version_info[:2], IMAGE_PYTHON))
        return f"the test cluster's pods run Python {theirs} on our packages, which are for {mine}"
    return None


def search_path() -> str:
    """Return PATH with the system's programs, which are not on every root's PATH."""
    return f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"


def check_programs() -> None:
    """Return when all programs of the node are there.

    Raises:
        NodeError: some are missing; the message names their Debian packages.
    """
    path = search_path()
    missing = {package for name, package in PROGRAMS.items() if not shutil.which(name, path=path)}
    if not (PLUGINS / "ptp").exists():
        missing.add("containernetworking-plugins")
    if missing:
        raise NodeError(
            f"the test cluster needs Debian packages: {' '.join(sorted(missing))}; "
            "run: .ci/setup dev, as root"
        )


def _effective_capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("CapEff:")[2].split()[0], 16)
