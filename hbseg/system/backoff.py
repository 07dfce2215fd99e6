"""Exponential back-off between the tries of something that may pass."""

from __future__ import annotations

import random
from typing import Protocol


class Stop(Protocol):
    """What may end a pause early: a `threading.Event`, or the launcher's `StopRequest`."""

    def wait(self, seconds: float, /) -> bool:
        """Return after `seconds`, or when it is set; return whether it is."""


class Backoff:
    """The pauses of one loop: each is twice as long as the last one, up to a limit."""

    def __init__(self, first: float, longest: float, *, jitter: float = 0.0) -> None:
        """`first` and `longest` are seconds; `jitter`, 0 to 1, is the share that chance may cut.

        With jitter, clients that failed together do not all come back together.
        """
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._next = first

    def next_pause(self) -> float:
        """Return the seconds to wait now; the next pause is twice as long."""
        seconds = self._next * random.uniform(1 - self._jitter, 1)  # noqa: S311 - no secret
        self._next = min(2 * self._next, self._longest)
        return seconds

    def wait(self, stop: Stop) -> bool:
        """Wait for the next pause, or until `stop` is set; return whether it is."""
        return stop.wait(self.next_pause())

    def reset(self) -> None:
        """Begin again with the first pause: something succeeded."""
        self._next = self._first
