"""The first process of the node's namespaces: it starts the components and keeps them in reach.

It lives as long as its standard input, a socket whose other end the supervisor holds. When it
ends, the kernel ends everything in the namespaces.
"""

from __future__ import annotations

import hashlib
import select
import socket
import subprocess
from pathlib import Path

from tests.cluster.node import border
from tests.cluster.node.addresses import NODE_ADDRESS
from tests.cluster.node.boot import answers, boot
from tests.cluster.node.build import Build
from tests.cluster.node.components import PROBES, components
from tests.cluster.node.configuration import RUN
from tests.cluster.node.isolation import bind, isolate
from tests.cluster.node.paths import NodeError, State
from tests.cluster.node.processes import Processes

Answer = tuple[border.Message, socket.socket | None]

_REAP_SECONDS = 0.2


def run(state: State, build: Build) -> None:
    """Start the node, say that it is ready, and answer the supervisor until it is gone."""
    supervisor = socket.socket(fileno=0)
    isolate(state)
    bind(state.source, RUN / "source")
    processes = Processes(state.logs, components(state, build))
    boot(state, build, processes)
    border.send(supervisor, {"ready": True})
    _serve(supervisor, processes)


def _serve(supervisor: socket.socket, processes: Processes) -> None:
    while True:
        waiting, _, _ = select.select([supervisor], [], [], _REAP_SECONDS)
        processes.reap()
        if not waiting:
            continue
        received = border.receive(supervisor)
        if received is None:
            return
        answer, carried = _answer(received[0], processes)
        border.send(supervisor, answer, carried)
        if carried:
            carried.close()


def _answer(message: border.Message, processes: Processes) -> Answer:
    try:
        match list(message.items()):
            case [("dial", _)]:
                return {}, socket.socket()
            case [("listen", port)]:
                return {}, _listener(port)
            case [("site", folder)]:
                return {"path": _shown(Path(folder))}, None
            case [("start", name)]:
                processes.start(name)
            case [("kill", name)]:
                processes.kill(name)
            case [("running", _)]:
                return {"running": processes.running()}, None
            case [("probe", name)]:
                return {"ready": answers(PROBES[name])}, None
            case _:
                return {"error": f"the node cannot {message}"}, None
    except (NodeError, OSError, subprocess.SubprocessError) as error:
        return {"error": str(error)}, None
    return {}, None


def _listener(port: int) -> socket.socket:
    """Return a socket bound to the node's address; others may share the port with it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((NODE_ADDRESS, port))
    return listener


def _shown(folder: Path) -> str:
    """Return where pods find a folder of the machine, which may lie below a private one."""
    target = RUN / "site" / hashlib.sha256(bytes(folder)).hexdigest()[:8]
    if not target.exists():
        bind(folder, target)
    return str(target)
