"""The one process outside the node: its namespaces live and end with it.

It holds `node.lock` alone while it runs. Users hold `users.lock` together; when it can have that
one alone, nobody is left and it ends the node. A node that is kept waits for `stop` instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.cluster.node import border, control
from tests.cluster.node.addresses import API_PORT, NODE_ADDRESS
from tests.cluster.node.build import Build
from tests.cluster.node.certificates import write_certificates
from tests.cluster.node.configuration import RUN, write_configuration
from tests.cluster.node.forwarding import forward
from tests.cluster.node.isolation import remove_cgroups
from tests.cluster.node.locks import opened, try_exclusive
from tests.cluster.node.operator_manifests import write_operator_manifests
from tests.cluster.node.paths import ROOT, NodeError, State
from tests.cluster.node.requirements import search_path

LOOPBACK = "127.0.0.1"
END_SECONDS = 120.0
_POLL_SECONDS = 0.1


class Supervisor:
    """A node from its start to its end."""

    def __init__(self, state: State, build: Build) -> None:
        self._state = state
        self._build = build
        self._users = opened(state.cache / "users.lock")
        self._kept = False
        self._entrance = 0
        self._stopped = False
        self._inside, self._inside_end = border.pair()

    def run(self) -> None:
        """Start the node, print `ready`, serve it until it is to end, and remove what is left.

        Raises:
            NodeError: the node does not start.
        """
        node_lock = opened(self._state.cache / "node.lock")
        if not self._alone(node_lock):
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        with _api_listener() as listener:
            _clear(self._state)
            _prepare(self._state, self._build, listener.getsockname()[1])
            process = self._start(node_lock)
            try:
                if self._becomes_ready(process):
                    asyncio.run(self._serve(listener, process))
            finally:
                self._end(process)

    def _alone(self, node_lock: int) -> bool:
        """Return whether the place is ours; false where another's node came up meanwhile."""
        while not try_exclusive(node_lock):
            if control.described(self._state.control_socket):
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _stop(self, *_: object) -> None:
        self._stopped = True

    def _is_over(self, process: subprocess.Popen[bytes]) -> bool:
        """Return whether the node is to end, or has ended by itself."""
        if self._stopped or process.poll() is not None:
            return True
        return not self._kept and try_exclusive(self._users)

    def _start(self, node_lock: int) -> subprocess.Popen[bytes]:
        """Start the namespaces; their parent holds the node's lock until all in them is gone."""
        with (self._state.logs / "node.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *("unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--mount-proc"),
                    *("--fork", "--kill-child", "--propagation", "private"),
                    *(sys.executable, "-m", "tests.cluster.node", "inside"),
                    *(str(self._state.cache), str(self._build.folder)),
                ],
                cwd=ROOT,
                # nothing of the user's: no proxy, no credentials, no kubeconfig
                env={"PATH": search_path(), "HOME": str(RUN), "LANG": "C.UTF-8"},
                stdin=self._inside_end.fileno(),
                stdout=log,
                stderr=log,
                pass_fds=[node_lock],
                start_new_session=True,
            )
        self._inside_end.close()
        self._entrance = process.pid
        return process

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Return whether the node is ready; false where everybody left meanwhile.

        Raises:
            NodeError: it ended by itself; the message has the last lines of its logs.
        """
        self._inside.setblocking(False)
        while True:
            with suppress(BlockingIOError):
                if border.receive(self._inside):
                    self._inside.setblocking(True)
                    return True
                process.wait(END_SECONDS)
            if process.poll() is not None:
                raise NodeError(f"the node does not start\n{last_lines(self._state)}")
            if self._is_over(process):
                return False
            time.sleep(_POLL_SECONDS)

    async def _serve(self, listener: socket.socket, process: subprocess.Popen[bytes]) -> None:
        api = await forward(listener, self._dial, (NODE_ADDRESS, API_PORT))
        server = await asyncio.start_unix_server(self._control, self._state.control_socket)
        with suppress(BrokenPipeError):  # who started it may be gone, and others use it
            os.write(1, b"ready\n")
        while not self._is_over(process):
            await asyncio.sleep(_POLL_SECONDS)
        server.close()
        api.close()

    def _dial(self) -> socket.socket:
        """Return a socket in the node's network."""
        _, made = border.ask(self._inside, {"dial": None})
        if made is None:
            raise NodeError("the node sent no socket")
        return made

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; what is exposed stays so until the connection ends."""
        with suppress(ConnectionError):
            [(what, value)] = json.loads(await reader.readline()).items()
            exposed: asyncio.Server | None = None
            try:
                if what == "expose":
                    exposed = await self._expose(value)
                answer = {} if exposed else self._answer(what, value)
            except (NodeError, OSError) as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            if exposed:
                await reader.read()
                exposed.close()
        writer.close()

    async def _expose(self, port: int) -> asyncio.Server:
        _, listener = border.ask(self._inside, {"listen": port})
        if listener is None:
            raise NodeError("the node sent no socket")
        return await forward(listener, socket.socket, (LOOPBACK, port))

    def _answer(self, what: str, value: Any) -> dict[str, Any]:
        if what == "describe":
            border.ask(self._inside, {"running": None})  # a node that is gone is none
            return {"key": self._build.key, "kept": self._kept}
        if what == "entrance":  # a process in the node's namespaces, by its id outside
            return {"pid": self._entrance}
        if what == "keep":
            self._kept = True
            return {}
        if what == "stop":
            self._stopped = True
            return {}
        return border.ask(self._inside, {what: value})[0]

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Let go of the node, wait until its processes are gone, and remove its cgroups."""
        self._inside.close()
        process.wait(END_SECONDS)
        _clear(self._state)


def last_lines(state: State, lines: int = 6) -> str:
    """Return the last lines of each component's log, the node's own last."""
    logs = sorted(state.logs.glob("*.log"), key=lambda path: path.name == "node.log")
    return "\n".join(
        f"{path}:\n    " + "\n    ".join(path.read_text(errors="replace").splitlines()[-lines:])
        for path in logs
    )


@contextmanager
def _api_listener() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        yield listener


def _prepare(state: State, build: Build, host_port: int) -> None:
    shutil.rmtree(state.logs, ignore_errors=True)
    state.logs.mkdir(parents=True)
    state.source.mkdir(mode=0o755)
    authority = write_certificates(state.keys)
    write_configuration(state, authority, host_port)
    write_operator_manifests(build.operator_manifests, state.configuration / "operator")


def _clear(state: State) -> None:
    """Remove what a node leaves, this one or one that was killed; its logs stay.

    Raises:
        NodeError: its cgroups cannot be removed.
    """
    deadline = time.monotonic() + END_SECONDS
    while not remove_cgroups(state.cgroup):
        if time.monotonic() > deadline:
            raise NodeError(f"processes are left in the cgroup {state.cgroup}; end them")
        time.sleep(_POLL_SECONDS)
    for folder in (state.keys, state.configuration, state.source):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (state.kubeconfig, state.control_socket):
        file.unlink(missing_ok=True)
