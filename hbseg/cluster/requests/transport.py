"""Requests to a Kubernetes API: time limits, retries, and no error but our own."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, Self, TypeVar

from hbseg.cluster.requests.api_errors import DOCTOR, Call, MissingKind, api_error, one_line
from hbseg.errors import DeniedError, HbsegError, UnreachableError
from hbseg.system.backoff import Backoff

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
RETRY_SECONDS = 5.0
"""Seconds for which a request that failed for now is tried again."""
FIRST_PAUSE = 0.2
MAX_PAUSE = 5.0

Value = TypeVar("Value")

_RETRYABLE_STATUS = frozenset({429, 500, 502, 503, 504})


class Pool(Protocol):
    """What we use of urllib3's pool of connections."""

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Return the answer."""


Headers = Callable[[], Mapping[str, str]]
"""Returns the headers that authenticate a request; it may refresh a token."""


class ServerClock:
    """The API server's clock, to a second, as the `Date` of its last answer tells it.

    Before the first answer it is this machine's clock.
    """

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the server's time, in UTC."""
        return datetime.now(UTC) + self._ahead

    def set(self, date: str | None) -> None:
        """Set the clock by an answer's `Date` header; a missing or unreadable one is ignored."""
        with suppress(TypeError, ValueError):
            self._ahead = parsedate_to_datetime(date or "") - datetime.now(UTC)


class Answer:
    """An open response, read line by line as it arrives."""

    def __init__(self, response: Any, server: str) -> None:
        self._response = response
        self._server = server
        self._closed = False

    def lines(self) -> Iterator[bytes]:
        """Yield whole lines without their line ends, then what follows the last line end.

        Raises:
            UnreachableError: the connection broke, or was silent for the read's time limit.
                After `close` nothing is raised: the lines end.
        """
        rest = b""
        try:
            with _foreign_errors(self._server):
                for piece in self._response.stream(1 << 16):
                    *lines, rest = (rest + piece).split(b"\n")
                    yield from lines
        except Exception:
            if self._closed:
                return  # reading a closed connection can raise anything
            raise
        finally:
            self.close()
        if rest:
            yield rest

    def close(self) -> None:
        """Close the response, and wake a thread that waits for its next line."""
        self._closed = True
        with suppress(Exception):  # the connection may be in any state
            self._response.shutdown()
        with suppress(Exception):
            self._response.close()


class Transport:
    """Sends requests to one API server; every error is one of `hbseg.errors`."""

    def __init__(
        self, pool: Pool, server: str, headers: Headers, *, retry_timeout: float = RETRY_SECONDS
    ) -> None:
        self._pool = pool
        self.server = server.rstrip("/")
        self._headers = headers
        self.retry_timeout = retry_timeout
        """Seconds for which a request that failed for now is tried again."""
        self.clock = ServerClock()
        """Shared with all views of this transport."""

    def with_retry_timeout(self, seconds: float) -> Self:
        """Return a view that retries for `seconds`; connections and clock are shared."""
        view = copy.copy(self)
        view.retry_timeout = seconds
        return view

    def json(
        self,
        call: Call,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Return the object that the server answers with.

        Raises:
            UnreachableError: no answer, or only failures, for `retry_timeout` seconds.
            HbsegError: the server refuses; see `hbseg.cluster.requests.api_errors`.
        """
        data = None if body is None else json.dumps(body).encode()

        def ask() -> dict[str, Any]:
            response = self._ask(call, method, path, query or {}, data, content_type, READ_SECONDS)
            try:
                answer = json.loads(response.data)
            except ValueError:
                answer = None
            if not isinstance(answer, dict):
                raise UnreachableError(f"{self.server} does not answer like a Kubernetes API")
            return answer

        return self._retried(ask)

    def stream(
        self, call: Call, path: str, *, query: Mapping[str, str], read_seconds: float
    ) -> Answer:
        """Return an open response, which the caller closes. Raises the same errors as `json`."""
        return self._retried(
            lambda: Answer(
                self._ask(call, "GET", path, query, None, "", read_seconds, whole=False),
                self.server,
            )
        )

    def _ask(
        self,
        call: Call,
        method: str,
        path: str,
        query: Mapping[str, str],
        data: bytes | None,
        content_type: str,
        read_seconds: float,
        *,
        whole: bool = True,
    ) -> Any:
        from urllib.parse import urlencode

        from urllib3.util import Timeout

        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json, */*", **_authentication(self._headers)}
        if data is not None:
            headers["Content-Type"] = content_type
        with _foreign_errors(self.server):
            response = self._pool.request(
                method,
                url,
                body=data,
                headers=headers,
                timeout=Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                retries=False,
                redirect=False,
                preload_content=whole,
            )
            self.clock.set(response.headers.get("Date"))
            if response.status < 300:
                return response
            refused = api_error(
                call, response.status, response.read() if not whole else response.data
            )
        if response.status in _RETRYABLE_STATUS:
            raise _RetryableError(refused, _seconds(response.headers.get("Retry-After")))
        raise refused

    def _retried(self, ask: Callable[[], Value]) -> Value:
        """Return the result of `ask`; temporary failures are retried within `retry_timeout`."""
        began, backoff = time.monotonic(), Backoff(FIRST_PAUSE, MAX_PAUSE, jitter=0.5)
        while True:
            try:
                return ask()
            except _RetryableError as temporary:
                error: HbsegError = temporary.api_error
                least = temporary.retry_after
            except MissingKind:
                raise
            except UnreachableError as unreachable:
                error, least = unreachable, 0.0
            waited = max(least, backoff.next_pause())
            if time.monotonic() - began + waited > self.retry_timeout:
                raise error
            time.sleep(waited)


class _RetryableError(HbsegError):
    """The server refuses for now."""

    def __init__(self, refused: HbsegError, retry_after: float) -> None:
        super().__init__(str(refused))
        self.api_error = refused
        self.retry_after = retry_after


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0


def _authentication(headers: Headers) -> Mapping[str, str]:
    """Return the headers that authenticate a request.

    A credential plugin may make them, so any exception can come from there.
    """
    try:
        return headers()
    except Exception as error:
        raise DeniedError(
            f"the cluster's credentials cannot be refreshed: {one_line(str(error))[:300]}",
            "log in again",
        ) from None


@contextmanager
def _foreign_errors(server: str) -> Iterator[None]:
    """Turn the errors of urllib3, sockets and TLS into ours."""
    from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError, SSLError

    try:
        yield
    except (ReadTimeoutError, ProtocolError):
        raise UnreachableError(
            f"the cluster at {server} does not answer in time or hung up", DOCTOR
        ) from None
    except SSLError as error:
        if "EOF" in str(error):  # the server, or a proxy before it, is stopping or starting
            raise UnreachableError(f"the cluster at {server} hung up", DOCTOR) from None
        raise UnreachableError(
            f"no safe connection to the cluster at {server}: {_cause(error)}",
            "correct the cluster's certificate authority: in the kubeconfig, or in a pod ca.crt",
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        raise UnreachableError(
            f"cluster not reachable at {server}: {_cause(error)}",
            "is it up, and is this the right --context?",
        ) from None


def _cause(error: BaseException) -> str:
    """Return the message of the innermost error of a chain."""
    text = str(getattr(error, "reason", None) or error)
    return one_line(text.rpartition("): ")[2] or text)[:200]
