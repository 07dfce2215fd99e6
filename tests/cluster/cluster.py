"""The cluster that tests talk to: the machine's own node, or one that a person names."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.cluster.node.addresses import NODE, NODE_ADDRESS
from tests.cluster.node.components import PROBES
from tests.cluster.node.control import Forward
from tests.cluster.node.lease import Node

STATE_SECONDS = 300.0
"""Time limit of a state that a test waits for: many times what it takes on an idle machine."""
GPU = "nvidia.com/gpu"

_API = "kube-apiserver"


class KubectlFailed(Exception):
    """What kubectl says on its standard error."""


@dataclass(frozen=True)
class TestCluster:
    """A Kubernetes cluster with the training operator, and an administrator's way in."""

    __test__: ClassVar[bool] = False

    kubeconfig: Path
    program: str
    """kubectl."""
    node: Node | None
    """None in a cluster that is not ours: it has no components to kill and no volumes of ours."""

    @property
    def node_address(self) -> str:
        """Where pods find what `expose` shows them."""
        return NODE_ADDRESS

    @property
    def own(self) -> Node:
        """The node, where it is ours; tests that need it are marked `own_node`."""
        assert self.node, "a test that controls the node must be marked own_node"
        return self.node

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Return what kubectl prints.

        Raises:
            KubectlFailed: it ends with another status than 0.
        """
        cache = [f"--cache-dir={self.node.state.folder / 'kubectl'}"] if self.node else []
        finished = subprocess.run(
            [self.program, f"--kubeconfig={self.kubeconfig}", *cache, *arguments],
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if finished.returncode:
            raise KubectlFailed(finished.stderr.strip())
        return finished.stdout

    def create(self, *objects: dict[str, Any]) -> None:
        """Create objects in their order; each must be new."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("create", "-f", "-", input=json.dumps(items))

    @contextmanager
    def gpus(self, number: int) -> Iterator[None]:
        """Let the node offer `number` GPUs while the context is open, and none afterwards."""
        self._patch_gpus(number)
        try:
            yield
        finally:
            self._patch_gpus(0)

    def _patch_gpus(self, number: int) -> None:
        """Return when pods can ask for `number` GPUs."""
        gpus = {GPU: str(number)}
        patch = json.dumps({"status": {"capacity": gpus, "allocatable": gpus}})
        self.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", patch)
        path = r"jsonpath={.status.allocatable.nvidia\.com/gpu}"
        until(
            lambda: self.kubectl("get", "node", NODE, "-o", path) == str(number),
            f"the node offers {number} GPUs",
        )

    def expose(self, port: int) -> Forward:
        """Return a forward, for pods, from `node_address:port` to `port` of our loopback."""
        return self.own.expose(port)

    def stop_component(self, name: str) -> None:
        """End a component at once, as a crash would; it stays down until it is started."""
        self.own.kill_component(name)

    def start_component(self, name: str) -> None:
        """Start a component that was stopped; return when it says that it is ready."""
        self.own.start_component(name)
        if name in (_API, *PROBES):
            until(lambda: self.is_ready(name), f"{name} is ready again")

    def is_ready(self, name: str) -> bool:
        """Return whether a component says that it is ready: the API server, or one of `PROBES`."""
        if name != _API:
            return self.own.is_ready(name)
        try:
            return self.kubectl("get", "--raw", "/readyz", "--request-timeout=2s") == "ok"
        except KubectlFailed:
            return False


def until(holds: Callable[[], bool], what: str) -> None:
    """Return when `holds` does; a state that never comes fails the test."""
    deadline = time.monotonic() + STATE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)
