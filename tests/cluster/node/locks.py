"""Locks between processes that the kernel drops with their holders, however these end."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


def opened(path: Path) -> int:
    """Return a descriptor of the lock file `path`, which is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold `path` alone; wait for those before us."""
    descriptor = opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold `path` with others who share it; wait while somebody has it alone."""
    descriptor = opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def turn_of(folder: Path, *, alone: bool) -> Iterator[None]:
    """Have the node alone, or with others, while the context is open.

    Everybody waits at the same door first: who waits there to be alone lets nobody else in, so
    that those who share the node one after the other never keep him out for ever.
    """
    with ExitStack() as held:
        with exclusive(folder / "door.lock"):
            held.enter_context((exclusive if alone else shared)(folder / "drill.lock"))
        yield


def try_exclusive(descriptor: int) -> bool:
    """Return whether the lock is ours alone now; never wait."""
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
