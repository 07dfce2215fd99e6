from __future__ import annotations

import os
import signal
import threading

from hbseg.launcher.stop_request import stop_request
from hbseg.system.backoff import Backoff

FOR_EVER = 10_000.0
"""Seconds: a pause that is not cut does not end within a test's time limit."""


class Clock:
    """Takes every pause at once, and remembers it."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def wait(self, seconds: float, /) -> bool:
        self.pauses.append(seconds)
        return False


def test_pauses_double_up_to_the_longest_and_begin_again_after_a_success() -> None:
    clock, backoff = Clock(), Backoff(1, 5)

    stopped = [backoff.wait(clock) for _ in range(5)]
    backoff.reset()
    backoff.wait(clock)

    assert clock.pauses == [1, 2, 4, 5, 5, 1]
    assert not any(stopped)


def test_jitter_shortens_pauses_by_its_share_at_most_and_never_alike() -> None:
    first = {Backoff(8, 8, jitter=0.25).next_pause() for _ in range(1000)}

    assert len(first) > 900
    assert 6 <= min(first) < 6.5
    assert 7.5 < max(first) <= 8


def test_an_event_of_another_thread_ends_a_pause() -> None:
    event, begun = threading.Event(), threading.Event()
    answers: list[bool] = []

    def pause() -> None:
        begun.set()
        answers.append(Backoff(FOR_EVER, FOR_EVER).wait(event))

    thread = threading.Thread(target=pause, daemon=True)
    thread.start()
    assert begun.wait(60)
    event.set()
    thread.join(60)

    assert answers == [True]


def test_sigterm_ends_a_pause_of_the_launcher() -> None:
    with stop_request() as stop:
        killer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
        killer.start()

        assert Backoff(FOR_EVER, FOR_EVER).wait(stop)
        killer.join()
