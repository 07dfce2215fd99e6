"""Messages between the supervisor and the node's first process, over a socket pair.

Each message is one JSON object; an answer may carry a socket. A socket belongs to the network
namespace that it was made in, wherever it is used: so connections cross the border.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.cluster.node.paths import NodeError

_LIMIT = 65_536  # bytes of a message

Message = dict[str, Any]


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends that keep messages apart; closing one is seen at the other."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: Message, carried: socket.socket | None = None) -> None:
    """Send one message, with a socket if given."""
    descriptors = [carried.fileno()] if carried else []
    socket.send_fds(end, [json.dumps(message).encode()], descriptors)


def receive(end: socket.socket) -> tuple[Message, socket.socket | None] | None:
    """Return the next message and the socket it carries; none when the other end is closed."""
    try:
        data, descriptors, _, _ = socket.recv_fds(end, _LIMIT, 1)
    except ConnectionResetError:
        return None
    if not data:
        return None
    return json.loads(data), socket.socket(fileno=descriptors[0]) if descriptors else None


def ask(end: socket.socket, message: Message) -> tuple[Message, socket.socket | None]:
    """Return the answer to `message`.

    Raises:
        NodeError: the other side refuses, or is gone.
    """
    try:
        send(end, message)
        answer = receive(end)
    except OSError:
        answer = None
    if answer is None:
        raise NodeError("the test cluster's node has ended")
    if "error" in answer[0]:
        raise NodeError(answer[0]["error"])
    return answer
