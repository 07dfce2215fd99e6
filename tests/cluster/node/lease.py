"""The machine's one node, shared by all who want it: the first starts it, the last ends it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.node import control, source
from tests.cluster.node.build import Build, ensured
from tests.cluster.node.configuration import CONTAINERD_SOCKET, RUN
from tests.cluster.node.control import Forward
from tests.cluster.node.locks import exclusive, shared
from tests.cluster.node.paths import ROOT, NodeError, State, cache_folder
from tests.cluster.node.requirements import check_programs, obstacle

WAIT_SECONDS = 900.0
"""How long we wait for a node of another version to be given up by its users."""
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Node:
    """A running node, for as long as its lease is held."""

    state: State
    build: Build

    @property
    def kubeconfig(self) -> Path:
        """An administrator's, from this machine."""
        return self.state.kubeconfig

    @property
    def kubectl(self) -> str:
        """Path of the kubectl that was built with the node."""
        return self.build.program("kubectl")

    def expose(self, port: int) -> Forward:
        """Return a forward to `port` of this machine's loopback, for pods."""
        return control.expose(self.state.control_socket, port)

    def kill_component(self, name: str) -> None:
        """End a component at once, as a crash would; nothing starts it again but us."""
        self._ask("kill", name)

    def start_component(self, name: str) -> None:
        """Start a component that was killed; it may not answer yet."""
        self._ask("start", name)

    def is_ready(self, name: str) -> bool:
        """Return whether a component says that it is ready, of those that say so (`PROBES`)."""
        try:
            return bool(self._ask("probe", name)["ready"])
        except NodeError:
            return False

    def running_components(self) -> list[str]:
        """Return the names of the components whose processes run."""
        return list(self._ask("running")["running"])

    def site(self) -> str:
        """Return the folder of the node that shows this interpreter's packages to pods."""
        return str(self._ask("site", sysconfig.get_paths()["purelib"])["path"])

    def source(self) -> str:
        """Return the folder of the node that has our own packages as they are now."""
        return str(RUN / "source" / source.staged(self.state.source))

    def containerd(self, *arguments: str) -> list[str]:
        """Return a command line of ctr for the images of the node's pods."""
        pid = self._ask("entrance")["pid"]
        ctr = ("ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io")
        return ["nsenter", f"--target={pid}", "--mount", *ctr, *arguments]

    def _ask(self, what: str, value: Any = None) -> dict[str, Any]:
        return control.ask(self.state.control_socket, what, value)


@contextmanager
def lease() -> Iterator[Node]:
    """Yield the machine's node; start it where none runs, end it where nobody else has it.

    The kernel drops the lease of a process that ends, however that happens.

    Raises:
        NodeError: the node cannot be built or started, or one of another version is kept.
    """
    reason = obstacle()
    if reason:
        raise NodeError(reason)
    check_programs()
    state, build = State(cache_folder()), ensured()
    with _taken(state, build):
        yield Node(state, build)


def keep() -> Node:
    """Return the machine's node, started where none runs; it stays until `end`."""
    with lease() as node:
        control.ask(node.state.control_socket, "keep")
        return node


def end() -> bool:
    """Return whether a node ran; it has ended now, whoever used it."""
    state = State(cache_folder())
    running = control.described(state.control_socket) is not None
    if running:
        with suppress(NodeError):  # it may end by itself just now, its last user gone
            control.ask(state.control_socket, "stop")
    if state.cache.is_dir():
        with exclusive(state.cache / "node.lock"):  # ours when all its processes are gone
            pass
    return running


def _taken(state: State, build: Build) -> ExitStack:
    """Return the held lease on a running node of this build."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with exclusive(state.cache / "start.lock"), ExitStack() as held:
            held.enter_context(shared(state.cache / "users.lock"))
            running = control.described(state.control_socket) or _started(state, build)
            if running["key"] == build.key:
                return held.pop_all()
        if running["kept"]:
            raise NodeError(
                "a test cluster of another version of tests/cluster runs; end it: make cluster-down"
            )
        if time.monotonic() > deadline:
            raise NodeError(f"others use another test cluster for over {WAIT_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)


def _started(state: State, build: Build) -> dict[str, Any]:
    """Return the description of a new node, whose supervisor is a child of nobody here."""
    state.folder.mkdir(mode=0o700, exist_ok=True)
    log_path = state.folder / "supervisor.log"
    words = ("supervise", str(state.cache), str(build.folder))
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            ["setsid", "--fork", sys.executable, "-m", "tests.cluster.node", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        assert process.stdout
        process.stdout.readline()  # `ready`, or nothing when it has ended
    running = control.described(state.control_socket)
    if running is None:
        raise NodeError(log_path.read_text(errors="replace").strip() or "the node does not start")
    return running
