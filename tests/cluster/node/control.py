"""Requests to a running node's supervisor, over a socket in the node's state folder."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster.node.addresses import NODE_ADDRESS
from tests.cluster.node.paths import NodeError

_SECONDS = 120.0


class Forward:
    """A port of the node that leads to the same port of the host's loopback.

    It ends when it is closed, or with the process that asked for it.
    """

    def __init__(self, port: int, connection: socket.socket) -> None:
        self.port = port
        self._connection = connection

    @property
    def address(self) -> str:
        """Where pods find it: `address:port`."""
        return f"{NODE_ADDRESS}:{self.port}"

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def expose(path: Path, port: int) -> Forward:
    """Return a new forward of the host's `port`, by the supervisor that listens at `path`."""
    connection = _connected(path)
    try:
        _exchange(connection, {"expose": port})
    except BaseException:
        connection.close()
        raise
    return Forward(port, connection)


def ask(path: Path, what: str, value: Any = None) -> dict[str, Any]:
    """Return the supervisor's answer.

    Raises:
        NodeError: it refuses, or none listens at `path`.
    """
    with _connected(path) as connection:
        return _exchange(connection, {what: value})


def described(path: Path) -> dict[str, Any] | None:
    """Return the `key` of the running node's build and whether it is `kept`; none if none runs."""
    try:
        return ask(path, "describe")
    except NodeError:
        return None


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_SECONDS)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise NodeError(f"no node of the test cluster runs (at {path}: {error})") from error
    return connection


def _exchange(connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
    try:
        connection.sendall(json.dumps(request).encode() + b"\n")
        line = connection.makefile("rb").readline()
    except OSError as error:
        raise NodeError(f"the test cluster's node does not answer: {error}") from error
    if not line:
        raise NodeError("the test cluster's node has ended")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise NodeError(answer["error"])
    return answer
