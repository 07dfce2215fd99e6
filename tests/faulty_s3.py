"""An S3 server behind a bad network: a proxy that breaks off the answers that a test chooses."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from enum import Enum, auto
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Fault(Enum):
    """What happens to one answer; the request has reached the server by then."""

    RESET = auto()
    """The head, half of the body, then a TCP reset."""
    CUT = auto()
    """The head, half of the body, then the orderly end of the connection."""
    CUT_UNSEEN = auto()
    """As `CUT`, and no head says how long the body is."""
    STALL = auto()
    """The head, half of the body, then nothing more until the client gives up."""


Choice = Callable[[str], Fault | None]
"""The fault of a request, `GET /bucket/key?query`; called once for each, in their order."""


def first(number: int, fault: Fault, *, of: str = "") -> Choice:
    """Return the choice of a fault for the first requests that contain `of`, and of none then."""
    left = [fault] * number
    return lambda request: left.pop() if of in request and left else None


class FaultyS3(ThreadingHTTPServer):
    """A proxy in front of one S3 server on loopback; `requests` are all that it was asked.

    With `tls` it speaks HTTPS; the server behind it does not.
    """

    daemon_threads = True

    def __init__(self, endpoint: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http" if tls is None else "https"
        if tls is not None:
            # the handshake waits for the request's thread: a bad client stops no other one
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.behind = endpoint.removeprefix("http://")
        self.choice: Choice = lambda request: None
        self.requests: list[str] = []
        self.headers: list[Message] = []
        """The headers of each request."""
        self.connections = 0
        """How many were opened."""
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """URL for `AWS_ENDPOINT_URL`."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def break_off(self, choice: Choice) -> None:
        """Choose the faults from here on; forgets the requests so far."""
        self.choice = choice
        self.requests.clear()
        self.headers.clear()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count the connection, and serve it."""
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep the test's output free of handshakes that clients break off."""
        if not isinstance(sys.exception(), ssl.SSLError):
            super().handle_error(request, client_address)


@contextmanager
def faulty_s3(endpoint: str, tls: ssl.SSLContext | None = None) -> Iterator[FaultyS3]:
    """Yield a proxy that serves."""
    with FaultyS3(endpoint, tls) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
        yield proxy
        proxy.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: FaultyS3
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        request = f"{self.command} {self.path}"
        body = self._body()
        with self.server.lock:
            self.server.requests.append(request)
            self.server.headers.append(self.headers)
            fault = self.server.choice(request)
        connection = HTTPConnection(self.server.behind)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        with connection.getresponse() as answer:
            self._relay(answer, fault)
        connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815

    def _body(self) -> bytes:
        """Return the request's body as it was sent, chunks and all."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = line = self.rfile.readline()
        while size := int(line, 16):
            body += self.rfile.read(size + 2) + (line := self.rfile.readline())
        while line != b"\r\n":  # what follows the last chunk
            body += (line := self.rfile.readline())
        return body

    def _relay(self, answer: HTTPResponse, fault: Fault | None) -> None:
        body = answer.read()
        length = answer.headers.get("Content-Length") or str(len(body))
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        if fault is not Fault.CUT_UNSEEN:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body if fault is None else body[: len(body) // 2])
        if fault is not None:
            self._break(fault)

    def _break(self, fault: Fault) -> None:
        self.close_connection = True
        if fault is Fault.STALL:
            self.rfile.read(1)  # returns when the client closes the connection
        if fault is Fault.RESET:
            at_once = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Keep the test's output free of requests."""
