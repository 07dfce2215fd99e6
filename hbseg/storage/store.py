"""Object storage: one protocol over S3 and plain folders, with conditional writes.

A store is the folder behind a URL (`s3://bucket/prefix` or a path); keys are relative to it, with
`/` between their parts. Listings are sorted by key. No key leaves its store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hbseg.errors import BucketMissing, InvalidInput, NotFoundError

READERS = 32
"""Objects that are read at a time where many are wanted: they hide the way to a far server."""


@dataclass(frozen=True)
class Entry:
    """One object of a listing: its key and its size in bytes."""

    key: str
    size: int
    tag: str = field(default="", compare=False)
    """Changes with the content; empty where a listing does not tell it."""


class Store(Protocol):
    """A folder of objects.

    Every method may raise `UnreachableError` (no answer, try again), `DeniedError` (wrong keys,
    no rights) and `InvalidInput` (a key that leaves the folder).
    """

    @property
    def url(self) -> str:
        """URL of the folder, without a final slash."""

    def get(self, key: str) -> bytes:
        """Return an object's bytes. Raises NotFoundError."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from offset `start`. Raises NotFoundError."""

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Return an object's bytes and its tag for `put_if_match`. Raises NotFoundError."""

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Yield many small objects' bytes in the order of their keys; none where one is not there.

        Several are read at a time, which a loop of `get` cannot.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write an object; readers see the old one or the new one whole."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless one is there; return whether it was written."""

    def put_if_match(self, key: str, data: bytes, tag: str) -> bool:
        """Write an object if it still has `tag`; return whether it was written."""

    def upload(self, key: str, path: Path) -> None:
        """Write a local file as an object, in parts where it is large."""

    def download(self, key: str, path: Path) -> None:
        """Write an object to a local file, by one rename. Raises NotFoundError."""

    def exists(self, key: str) -> bool:
        """Return whether an object is there."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects whose key starts with `prefix`, sorted by key."""

    def list_folders(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the folders directly below the folder `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def folder(self, path: str) -> Store:
        """Return the store of a folder below this one."""


def read_many(read: Callable[[str], bytes], keys: Iterable[str]) -> Iterator[bytes | None]:
    """Yield what `read` returns for each key, in their order; none where it finds nothing."""
    from concurrent.futures import ThreadPoolExecutor

    def found(key: str) -> bytes | None:
        try:
            return read(key)
        except BucketMissing:
            raise
        except NotFoundError:
            return None

    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as readers:
        yield from readers.map(found, keys)


def checked_key(key: str) -> str:
    """Return `key` if it names an object inside its store.

    Raises:
        InvalidInput: empty, absolute, not UTF-8, with `..`, an empty part, a control character or
            a part of more than 255 bytes.
    """
    parts = key.split("/")
    bad = (
        not is_utf8(key)
        or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
        or any(ord(character) < 32 or character == "\x7f" for character in key)
        or "\\" in key
    )
    if bad:
        raise InvalidInput(f"not a valid key in storage: {key[:200]!r}")
    return key


def is_utf8(name: str) -> bool:
    """Return whether a name that the system gave can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def join_key(prefix: str, key: str) -> str:
    """Return `prefix/key`, or the one of them that is not empty."""
    return f"{prefix}/{key}" if prefix and key else prefix or key
