"""Where the node keeps what it builds and what it runs with."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""The repository."""


MAX_SOCKET = 107
"""Bytes of a Unix socket's path on Linux."""


class NodeError(Exception):
    """What keeps the node from being built, started or used; one line for people."""


@dataclass(frozen=True)
class State:
    """What one node leaves for people and tests to see: locks, logs, keys, sockets."""

    cache: Path

    @property
    def folder(self) -> Path:
        return self.cache / "node"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    @property
    def keys(self) -> Path:
        return self.folder / "pki"

    @property
    def configuration(self) -> Path:
        return self.folder / "etc"

    @property
    def source(self) -> Path:
        """Staged copies of our own packages, one folder for each content."""
        return self.folder / "source"

    @property
    def kubeconfig(self) -> Path:
        """An administrator's, from the machine's loopback."""
        return self.folder / "kubeconfig"

    @property
    def control_socket(self) -> Path:
        return self.folder / "control.sock"

    @property
    def cgroup(self) -> str:
        """The cgroup of all pods; named for the cache, so that two nodes never share one."""
        return f"hbseg-{hashlib.sha256(bytes(self.cache)).hexdigest()[:8]}"


def cache_folder() -> Path:
    """Return the folder of builds and of the node's state.

    Raises:
        NodeError: it lies where the node mounts something of its own.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = os.environ.get("HBSEG_TEST_CACHE") or home / "hbseg-test-cluster"
    folder = Path(os.path.abspath(named))
    for hidden in ("/run", "/var"):
        if folder.resolve().is_relative_to(hidden):
            raise NodeError(
                f"the test cluster's cache {folder} lies below {hidden}, which the node hides; "
                "set HBSEG_TEST_CACHE to another folder"
            )
    if len(os.fsencode(State(folder).control_socket)) > MAX_SOCKET:
        raise NodeError(
            f"the test cluster's cache {folder} has too long a path for a socket in it; "
            "set HBSEG_TEST_CACHE to a shorter one"
        )
    return folder
