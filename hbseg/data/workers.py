"""One function over many items: here, or in processes of their own, in order and in flat memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

from hbseg.errors import StepFailed

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done and how many there are."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the order of `items`.

    With more than one worker the function runs in spawned processes (it and the items are
    pickled); at most four items a worker are in flight, so memory does not grow with `items`.

    Raises:
        StepFailed: a process was killed from outside.
    """
    if workers <= 1 or len(items) < 2:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(items)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
    )
    try:
        yield from _in_order(pool, function, items, ahead=4 * workers)
    except BrokenProcessPool:
        raise StepFailed(
            "a worker process was killed, most likely for memory", "use fewer workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    ahead: int,
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _begin() -> None:
    """Prepare a worker process: one thread, no Ctrl-C of its own, and no life after its parent."""
    cv2.setNumThreads(1)  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed parent cannot close its pool, and its workers would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
