"""The order in which the node's components start, each when what it needs is there."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.cluster.node.addresses import NODE
from tests.cluster.node.build import Build
from tests.cluster.node.certificates import Authority
from tests.cluster.node.components import (
    ETCD,
    OPERATOR_CERTIFICATES,
    OPERATOR_KUBECONFIG,
    OPERATOR_PROGRAMS,
    PROBES,
)
from tests.cluster.node.configuration import (
    API,
    CONTAINERD_SOCKET,
    kubeconfig,
    write_kubeconfig,
)
from tests.cluster.node.isolation import bind
from tests.cluster.node.operator_manifests import CERTIFICATE_SECRET, NAME, NAMESPACE
from tests.cluster.node.paths import NodeError, State
from tests.cluster.node.processes import Processes

STATE_SECONDS = 300.0
"""Time limit of each state; all together take about 10 s on 2 idle cores."""
_POLL_SECONDS = 0.05
_READY = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'


class Boot:
    """One start of the node."""

    def __init__(self, state: State, build: Build, processes: Processes) -> None:
        self._state = state
        self._build = build
        self._processes = processes
        self._began = time.monotonic()

    def start(self, *names: str) -> None:
        for name in names:
            self._processes.start(name)

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Return when `holds` does; what it raises meanwhile means that it does not yet.

        Raises:
            NodeError: the state did not come in time, or a component has ended.
        """
        deadline = time.monotonic() + STATE_SECONDS
        last: Exception | None = None
        while time.monotonic() < deadline:
            try:
                if holds():
                    self.say(what)
                    return
            except (OSError, subprocess.SubprocessError) as error:
                last = error
            if ended := self._processes.reap():
                raise NodeError(f"{' and '.join(ended)} ended before {what}")
            time.sleep(_POLL_SECONDS)
        raise NodeError(f"not in {STATE_SECONDS:.0f} s: {what}" + (f": {last}" if last else ""))

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:6.2f} s  {what}", flush=True)

    def kubectl(self, *arguments: str) -> str:
        admin = kubeconfig(self._state.configuration, "admin")
        return _output(self._build.program("kubectl"), f"--kubeconfig={admin}", *arguments)

    def import_images(self) -> None:
        for archive in self._build.images:
            _ctr("-n", "k8s.io", "images", "import", str(archive))
        self.say("images imported")

    def install_operator(self) -> None:
        """Apply the operator's manifests, and give it a token of its ServiceAccount."""
        manifests = self._state.configuration / "operator"
        self.kubectl("apply", "--server-side", "-k", str(manifests))
        self.say("the operator's manifests applied")
        token = self.kubectl("-n", NAMESPACE, "create", "token", NAME, "--duration=48h").strip()
        authority = Authority(self._state.keys)
        write_kubeconfig(OPERATOR_KUBECONFIG, API, authority, {"token": token})

    def fetch_operator_certificates(self) -> bool:
        """Do what the kubelet does for a pod's Secret; return whether there was one to fetch."""
        secret = self.kubectl("-n", NAMESPACE, "get", "secret", CERTIFICATE_SECRET, "-o", "json")
        data: dict[str, str] = json.loads(secret).get("data") or {}
        for name, value in data.items():
            (OPERATOR_CERTIFICATES / name).write_bytes(base64.b64decode(value))
        return "tls.crt" in data


def boot(state: State, build: Build, processes: Processes) -> None:
    """Start everything; return when the node is Ready and the operator answers.

    Raises:
        NodeError: a state did not come in time, or a component has ended.
    """
    this = Boot(state, build, processes)
    OPERATOR_CERTIFICATES.mkdir(parents=True)
    bind(build.programs, OPERATOR_PROGRAMS)
    this.start("containerd", "etcd")
    this.until("etcd answers", lambda: _connects(ETCD))
    this.start("kube-apiserver")
    this.until("containerd answers", lambda: CONTAINERD_SOCKET.exists() and bool(_ctr("version")))
    this.import_images()
    this.until("kube-apiserver is ready", lambda: this.kubectl("get", "--raw", "/readyz") == "ok")
    this.start("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns")
    this.install_operator()
    this.start(NAME)
    this.until("the operator wrote its certificate", this.fetch_operator_certificates)
    this.until(
        "the node is Ready", lambda: this.kubectl("get", "node", NODE, "-o", _READY) == "True"
    )
    this.until("coredns is ready", lambda: answers(PROBES["coredns"]))
    this.until("the operator is ready", lambda: answers(PROBES[NAME]))
    this.until("pods can be made", lambda: bool(this.kubectl("get", "serviceaccount", "default")))


def _connects(url: str) -> bool:
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 0), 1):
        return True


def answers(url: str) -> bool:
    """Return whether a probe says yes; it raises `OSError` where it says no or nothing."""
    with urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)


def _ctr(*arguments: str) -> str:
    return _output("ctr", "-a", str(CONTAINERD_SOCKET), *arguments)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
