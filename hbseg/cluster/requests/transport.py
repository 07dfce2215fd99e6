"""Requests to a Kubernetes API: time limits, retries, and no error but our own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeVar

from hbseg.cluster.requests.api_errors import DOCTOR, Call, MissingKind, api_error, one_line
from hbseg.errors import DeniedError, HbsegError, UnreachableError
from hbseg.system.backoff import Backoff

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
RETRY_SECONDS = 5.0
"""Seconds for which a request that may pass is tried again."""
FIRST_PAUSE = 0.2
MAX_PAUSE = 5.0

Value = TypeVar("Value")

_RETRYABLE_STATUS = frozenset({429, 500, 502, 503, 504})


class Pool(Protocol):
    """What we use of urllib3's pool of connections."""

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Return the answer."""


Headers = Callable[[], Mapping[str, str]]
"""Returns the headers that prove who we are; it may refresh a token."""


class Answer:
    """An open answer that is read as it comes."""

    def __init__(self, response: Any, server: str) -> None:
        self._response = response
        self._server = server
        self._closed = False

    def lines(self) -> Iterator[bytes]:
        """Yield whole lines as they come, without line ends, and the rest at the end.

        Raises:
            UnreachableError: the connection broke, or nothing came for the read's time limit.
                Not where it was closed meanwhile: then the lines end.
        """
        rest = b""
        try:
            with _foreign_errors(self._server):
                for piece in self._response.stream(1 << 16):
                    *lines, rest = (rest + piece).split(b"\n")
                    yield from lines
        except Exception:
            if self._closed:
                return  # a connection closed under its reader breaks in any way
            raise
        finally:
            self.close()
        if rest:
            yield rest

    def close(self) -> None:
        """End the answer; a thread that waits for its next line is woken."""
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
        """Seconds for which a request that may pass is tried again."""
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the time by the server's clock, as its last answer told it (to a second)."""
        return datetime.now(UTC) + self._ahead

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
        """Return the answer's object.

        Raises:
            UnreachableError: no answer, or failures, for as long as `retry_timeout`.
            HbsegError: the server refuses, see `hbseg.cluster.requests.api_errors`.
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
        """Return an open answer. Raises as `json`; the caller closes it."""
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
        headers = {"Accept": "application/json, */*", **_proof(self._headers)}
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
            self._read_clock(response.headers.get("Date"))
            if response.status < 300:
                return response
            refused = api_error(
                call, response.status, response.read() if not whole else response.data
            )
        if response.status in _RETRYABLE_STATUS:
            raise _RetryableError(refused, _seconds(response.headers.get("Retry-After")))
        raise refused

    def _retried(self, ask: Callable[[], Value]) -> Value:
        """Return what `ask` does; what may pass is tried again within `retry_timeout`."""
        began, backoff = time.monotonic(), Backoff(FIRST_PAUSE, MAX_PAUSE, jitter=0.5)
        while True:
            try:
                return ask()
            except _RetryableError as passing:
                error: HbsegError = passing.api_error
                least = passing.retry_after
            except MissingKind:
                raise
            except UnreachableError as unreachable:
                error, least = unreachable, 0.0
            waited = max(least, backoff.next_pause())
            if time.monotonic() - began + waited > self.retry_timeout:
                raise error
            time.sleep(waited)

    def _read_clock(self, date: str | None) -> None:
        with suppress(TypeError, ValueError):
            self._ahead = parsedate_to_datetime(date or "") - datetime.now(UTC)


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


def _proof(headers: Headers) -> Mapping[str, str]:
    """Return the headers that prove who we are; foreign code makes them, which may fail anyhow."""
    try:
        return headers()
    except Exception as error:
        raise DeniedError(
            f"the cluster's credentials cannot be refreshed: {one_line(str(error))[:300]}",
            "log in again",
        ) from None


@contextmanager
def _foreign_errors(server: str) -> Iterator[None]:
    """Turn urllib3's errors, and those of sockets and TLS, into ours."""
    from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError, SSLError

    try:
        yield
    except (ReadTimeoutError, ProtocolError):
        raise UnreachableError(
            f"the cluster at {server} does not answer in time or hung up", DOCTOR
        ) from None
    except SSLError as error:
        if "EOF" in str(error):  # it, or what stands before it, is about to end or to start
            raise UnreachableError(f"the cluster at {server} hung up", DOCTOR) from None
        raise UnreachableError(
            f"no safe connection to the cluster at {server}: {_cause(error)}",
            "correct the certificates in the kubeconfig",
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        raise UnreachableError(
            f"cluster not reachable at {server}: {_cause(error)}",
            "is it up, and is this the right --context?",
        ) from None


def _cause(error: BaseException) -> str:
    """Return the innermost words of a chain of errors."""
    text = str(getattr(error, "reason", None) or error)
    return one_line(text.rpartition("): ")[2] or text)[:200]
