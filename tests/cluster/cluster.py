"""The cluster that tests talk to: the machine's own node, or one that a person names."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.cluster.node.addresses import NODE
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
    """A Kubernetes cluster with the training operator, and a way in."""

    __test__: ClassVar[bool] = False

    kubeconfig: Path
    program: str
    """kubectl."""
    flags: tuple[str, ...] = ()
    """Flags of every call of it."""

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of kubectl."""
        return [self.program, f"--kubeconfig={self.kubeconfig}", *self.flags, *arguments]

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Return what kubectl prints.

        Raises:
            KubectlFailed: it ends with another status than 0.
        """
        finished = subprocess.run(
            self.command(*arguments),
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

    def may(self, verb: str, kind: str) -> bool:
        """Return whether we may do that in the whole cluster."""
        try:
            return self.kubectl("auth", "can-i", verb, kind, "--all-namespaces") == "yes\n"
        except KubectlFailed:
            return False

    def write_kubeconfig(
        self, path: Path, *, token: str | None = None, server: str | None = None
    ) -> str:
        """Write our kubeconfig to `path`, for us alone, with another token or server; return it.

        Another server is not shown our credentials.
        """
        words = ("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        config = json.loads(self.kubectl(*words))
        if server is not None:
            config["clusters"][0]["cluster"]["server"] = server
            token = token or "none"
        if token is not None:
            config["users"][0]["user"] = {"token": token}
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return str(path)


@dataclass(frozen=True)
class OwnCluster(TestCluster):
    """The machine's own node, whose parts tests may stop, patch and look into."""

    node: Node = field(kw_only=True)

    @classmethod
    def of(cls, node: Node) -> Self:
        """Return the cluster of a running node."""
        cache = f"--cache-dir={node.state.folder / 'kubectl'}"
        return cls(node.kubeconfig, node.kubectl, (cache,), node=node)

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
        """Return a forward, for pods, from the node's address to `port` of our loopback."""
        return self.node.expose(port)

    def stop_component(self, name: str) -> None:
        """End a component at once, as a crash would; it stays down until it is started."""
        self.node.kill_component(name)

    def start_component(self, name: str) -> None:
        """Start a component that was stopped; return when it says that it is ready."""
        self.node.start_component(name)
        if name in (_API, *PROBES):
            until(lambda: self.is_ready(name), f"{name} is ready again")

    def is_ready(self, name: str) -> bool:
        """Return whether a component says that it is ready: the API server, or one of `PROBES`."""
        if name != _API:
            return self.node.is_ready(name)
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
