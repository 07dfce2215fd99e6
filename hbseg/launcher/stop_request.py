"""A request to stop, as SIGTERM or SIGINT brings it, that wakes a waiting launcher."""

from __future__ import annotations

import selectors
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class StopRequest:
    """SIGTERM or SIGINT arrived; any signal, SIGCHLD too, makes `wakeup` readable."""

    def __init__(self, wakeup: socket.socket) -> None:
        self.wakeup = wakeup
        self.is_set = False

    def set(self, signum: int, frame: object) -> None:
        """Take the request; a signal handler."""
        self.is_set = True

    def drain(self) -> None:
        """Empty `wakeup`."""
        with suppress(BlockingIOError):
            while self.wakeup.recv(4096):
                pass

    def wait(self, seconds: float) -> bool:
        """Return after `seconds`, or when the request arrives; return whether it has."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.wakeup, selectors.EVENT_READ)
            while not self.is_set and (left := deadline - time.monotonic()) > 0:
                selector.select(left)
                self.drain()
        return self.is_set


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Yield a request that SIGTERM and SIGINT set while the context is open."""
    wakeup, written = socket.socketpair()
    with wakeup, written:
        wakeup.setblocking(False)
        written.setblocking(False)
        stop = StopRequest(wakeup)
        before = {
            signum: signal.signal(signum, handler)
            for signum, handler in (
                (signal.SIGTERM, stop.set),
                (signal.SIGINT, stop.set),
                (signal.SIGCHLD, lambda signum, frame: None),
            )
        }
        old = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        try:
            yield stop
        finally:
            signal.set_wakeup_fd(old)
            for signum, handler in before.items():
                signal.signal(signum, handler)
