"""A fake of a Kubernetes API over HTTP on the loopback: objects in memory, and planned trouble.

It knows what our client uses: create (with dry run), get, list in pages, merge patch, delete with a
uid, and watches from a version on. It admits all, and runs nothing: tests play the operator.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Object = dict[str, Any]
_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?P<log>/log)?$"
)


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """A planned answer."""

    status: int = 200
    body: object = b""
    """An object, or the very bytes."""
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: tuple[bytes, ...] | None = None
    """Pieces of a stream, instead of the body."""
    cut: bool = False
    """Whether the connection breaks at the end of the stream, or instead of any answer."""


def status(code: int, message: str, **details: object) -> Object:
    """Return the `Status` that an API server answers with."""
    return {"kind": "Status", "code": code, "message": message, "details": details}


class FakeApi:
    """The server, by HTTPS with `tls`; use it as a context."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.seconds_ahead = 0.0
        """How far its clock is ahead of this machine's."""
        self.requests: list[Request] = []
        self.objects: dict[tuple[str, str], Object] = {}
        """(plural, name): the object."""
        self._plans: list[tuple[str, re.Pattern[str], list[Reply]]] = []
        self._log: list[tuple[int, str, str, Object]] = []
        self._version = 100
        self._changed = threading.Condition()
        self._closed = False
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            # the handshake waits for the request's thread, so that a bad client stops no other one
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeApi:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def plan(self, method: str, path: str, *replies: Reply) -> None:
        """Answer the next requests whose path has `path` (a pattern) with these, one after another.

        A watch has the method `WATCH`.
        """
        self._plans.append((method, re.compile(path), list(replies)))

    def planned(self, method: str, path: str) -> Reply | None:
        with self._changed:
            for wanted, pattern, replies in self._plans:
                if wanted == method and pattern.search(path) and replies:
                    return replies.pop(0)
        return None

    def put(self, plural: str, item: Object) -> Object:
        """Create or replace an object, as some controller would."""
        with self._changed:
            metadata = item.setdefault("metadata", {})
            there = self.objects.get((plural, metadata["name"]))
            self._version += 1
            metadata.setdefault("uid", f"uid-{self._version}")
            metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            metadata["resourceVersion"] = str(self._version)
            self._keep("ADDED" if there is None else "MODIFIED", plural, item)
            return item

    def remove(self, plural: str, name: str) -> None:
        """Delete an object, as some controller would."""
        with self._changed:
            item = self.objects.get((plural, name))
            if item is not None:
                self._version += 1
                gone = json.loads(json.dumps(item))
                gone["metadata"]["resourceVersion"] = str(self._version)
                self._keep("DELETED", plural, gone)

    def _keep(self, kind: str, plural: str, item: Object) -> None:
        copy = json.loads(json.dumps(item))
        key = (plural, copy["metadata"]["name"])
        if kind == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = copy
        self._log.append((self._version, plural, kind, copy))
        self._changed.notify_all()

    def listed(self, plural: str, query: Mapping[str, str]) -> tuple[int, Object]:
        with self._changed:
            items = [
                item
                for (kind, _), item in sorted(self.objects.items())
                if kind == plural and _selected(item, query)
            ]
            first = int(query.get("continue") or 0)
            limit = int(query.get("limit") or 10**6)
            rest = len(items) > first + limit
            metadata = {"resourceVersion": str(self._version)}
            if rest:
                metadata["continue"] = str(first + limit)
            return 200, {"metadata": metadata, "items": items[first : first + limit]}

    def created(self, plural: str, body: Object, query: Mapping[str, str]) -> tuple[int, Object]:
        with self._changed:
            name = body["metadata"].get("name", "")
            if (plural, name) in self.objects:
                return 409, status(409, f'{plural} "{name}" already exists', name=name)
            if query.get("dryRun"):
                return 201, body
            return 201, self.put(plural, body)

    def patched(self, plural: str, name: str, body: Object) -> tuple[int, Object]:
        with self._changed:
            item = self.objects.get((plural, name))
            if item is None:
                return 404, status(404, f'{plural} "{name}" not found', name=name)
            version = (body.get("metadata") or {}).get("resourceVersion")
            if version is not None and version != item["metadata"]["resourceVersion"]:
                return 409, status(409, "the object has been modified", name=name)
            return 200, self.put(plural, _merged(item, body))

    def deleted(self, plural: str, name: str, body: Object) -> tuple[int, Object]:
        with self._changed:
            item = self.objects.get((plural, name))
            if item is None:
                return 404, status(404, f'{plural} "{name}" not found', name=name)
            uid = (body.get("preconditions") or {}).get("uid")
            if uid is not None and uid != item["metadata"]["uid"]:
                return 409, status(409, "the UID in the precondition does not match", name=name)
            self.remove(plural, name)
            for (kind, other), owned in list(self.objects.items()):
                owners = owned["metadata"].get("ownerReferences") or []
                if any(owner.get("uid") == item["metadata"]["uid"] for owner in owners):
                    self.deleted(kind, other, {})
            return 200, status(200, "")

    def watch(self, plural: str, query: Mapping[str, str], send: Callable[[bytes], None]) -> None:
        """Send the changes from the asked version on until the server ends."""
        seen = int(query["resourceVersion"])
        while True:
            with self._changed:
                while not self._closed and self._version <= seen:
                    if not self._changed.wait(30):
                        return
                if self._closed:
                    return
                news = [entry for entry in self._log if entry[0] > seen and entry[1] == plural]
                seen = self._version
            for _, _, kind, item in news:
                if _selected(item, query):
                    send(json.dumps({"type": kind, "object": item}).encode() + b"\n")


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is two writes, that shall not wait for each other

    def log_message(self, *_: object) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.api.seconds_ahead)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ssl.SSLError:  # a client that refuses our certificate
            self.close_connection = True

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.api.requests.append(
            Request(self.command, parts.path, query, body, dict(self.headers.items()))
        )
        method = "WATCH" if query.get("watch") else self.command
        reply = self.api.planned(method, parts.path)
        if reply is not None:
            return self._send_planned(reply)
        match = _PATH.fullmatch(parts.path)
        if match is None:
            return self._send(404, status(404, "the server could not find the resource"))
        if method == "WATCH":
            self._begin_stream()
            with_break = self._stream_piece
            self.api.watch(match["plural"], query, with_break)
            return self._end_stream()
        return self._send(*self._done(match, query, body))

    def _done(
        self, match: re.Match[str], query: Mapping[str, str], body: Any
    ) -> tuple[int, Object]:
        plural, name = match["plural"], match["name"]
        if self.command == "POST":
            return self.api.created(plural, body, query)
        if self.command == "PATCH":
            return self.api.patched(plural, name, body)
        if self.command == "DELETE":
            return self.api.deleted(plural, name, body or {})
        if not name:
            return self.api.listed(plural, query)
        item = self.api.objects.get((plural, name))
        if item is None:
            return 404, status(404, f'{plural} "{name}" not found', name=name)
        return 200, item

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - as the base class asks

    def _send(self, code: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_planned(self, reply: Reply) -> None:
        if reply.pieces is None and reply.cut:
            self.close_connection = True
            return None
        if reply.pieces is None:
            return self._send(reply.status, reply.body, reply.headers)
        self._begin_stream()
        for piece in reply.pieces:
            self._stream_piece(piece)
        if reply.cut:
            self.close_connection = True
            return None
        return self._end_stream()

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _stream_piece(self, piece: bytes) -> None:
        try:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def _end_stream(self) -> None:
        self._stream_piece(b"")
        self.close_connection = True


_TERM = re.compile(r"(?P<no>!?)(?P<key>[\w./-]+)(?:=(?P<value>[^,]*)| in \((?P<values>.*?)\))?")


def _selected(item: Object, query: Mapping[str, str]) -> bool:
    labels = item["metadata"].get("labels") or {}
    return all(_holds(term, labels) for term in _TERM.finditer(query.get("labelSelector", "")))


def _holds(term: re.Match[str], labels: Mapping[str, str]) -> bool:
    """Return whether labels fulfil `key`, `!key`, `key=value` or `key in (a,b)`."""
    if term["value"] is not None:
        return labels.get(term["key"]) == term["value"]
    if term["values"] is not None:
        return labels.get(term["key"]) in term["values"].split(",")
    return (term["key"] in labels) != bool(term["no"])


def _merged(item: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(item, dict):
        return patch
    merged = dict(item)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key, {}), value)
    return merged
