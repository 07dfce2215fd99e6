"""A plain folder as object storage.

What is written survives a power cut: content and name are on the disk before a write returns. A
marker or a checkpoint's state is written last, and promises that the objects it lists are there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from hbseg.errors import DeniedError, NotFoundError
from hbseg.storage.files import PRIVATE, temporary_beside, write_error
from hbseg.storage.store import Entry, checked_key, is_utf8, join_key, read_many


class FolderStore:
    """The objects are files; conditional writes go by link and rename, under a lock file."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root.expanduser()))

    @property
    def url(self) -> str:
        """Absolute path of the folder."""
        return str(self._root)

    def folder(self, path: str) -> Self:
        """Return the store of a folder below this one."""
        return type(self)(self._root / checked_key(path.strip("/")))

    def get(self, key: str) -> bytes:
        """Return a file's bytes."""
        with self._reading(key) as path:
            return path.read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return a part of a file."""
        with self._reading(key) as path, path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Return a file's bytes and their sha256."""
        data = self.get(key)
        return data, _tag(data)

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Yield many files' bytes; the folder may be another machine's, so several at a time."""
        return read_many(self.get, keys)

    def put(self, key: str, data: bytes) -> None:
        """Write a file by rename."""
        target = self._path(key)
        with _synced_beside(target) as temporary:
            temporary.write_bytes(data)
            _sync_file(temporary)
            os.replace(temporary, target)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write a file by link, which fails where one is there."""
        target = self._path(key)
        with _synced_beside(target) as temporary:
            temporary.write_bytes(data)
            _sync_file(temporary)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
        return True

    def put_if_match(self, key: str, data: bytes, tag: str) -> bool:
        """Write a file under the folder's lock if its bytes still have `tag`."""
        with self._lock():
            try:
                unchanged = self.get_tagged(key)[1] == tag
            except NotFoundError:
                return False
            if unchanged:
                self.put(key, data)
            return unchanged

    def upload(self, key: str, path: Path) -> None:
        """Copy a local file into the folder."""
        target = self._path(key)
        with _synced_beside(target) as temporary:
            shutil.copyfile(path, temporary)
            _sync_file(temporary)
            os.replace(temporary, target)

    def download(self, key: str, path: Path) -> None:
        """Copy a file out of the folder."""
        # Opened first, so that a file that may not be read is not taken for one not written.
        with self._reading(key) as source, source.open("rb"), temporary_beside(path) as temporary:
            shutil.copyfile(source, temporary)
            os.replace(temporary, path)

    def exists(self, key: str) -> bool:
        """Return whether the file is there."""
        with self._reading(key) as path:
            return path.is_file()

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield all files below the folder whose key starts with `prefix`.

        Passed over: names that are not UTF-8, links that lead nowhere, pipes and devices.
        """
        above = prefix.rpartition("/")[0]
        start = self._path(above) if above else self._root
        yield from sorted(
            (entry for entry in self._walk(start) if entry.key.startswith(prefix)),
            key=lambda entry: entry.key,
        )

    def list_folders(self, prefix: str = "") -> Iterator[str]:
        """Yield the folders directly below `prefix`."""
        start = self._path(prefix) if prefix else self._root
        if start.is_dir():
            names = sorted(filter(is_utf8, os.listdir(start)))
            # `os.path.isdir` is False where an error is: at a link to itself, at what is gone.
            yield from (name for name in names if os.path.isdir(start / name))

    def delete(self, key: str) -> None:
        """Remove the file."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(error, path) from None

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _walk(self, start: Path) -> Iterator[Entry]:
        for folder, _, names in os.walk(start):
            relative = os.path.relpath(folder, self._root)
            above = "" if relative == "." else relative.replace(os.sep, "/")
            for name in names:
                key = join_key(above, name)
                if name.startswith(PRIVATE) or not is_utf8(key):
                    continue
                try:
                    found = os.stat(os.path.join(folder, name))
                except OSError:
                    continue  # a link that leads nowhere, or a file that is gone by now
                if stat.S_ISREG(found.st_mode):
                    yield Entry(key, found.st_size)

    @contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        try:
            yield path
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError(f"not found: {path}") from None
        except PermissionError:
            raise DeniedError(f"no permission to read {path}") from None

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            file = (self._root / f"{PRIVATE}lock").open("a")
        except OSError as error:
            raise write_error(error, self._root) from None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextmanager
def _synced_beside(target: Path) -> Iterator[Path]:
    """Yield as `temporary_beside`; then the names of `target` and of new folders are on disk."""
    folders = list(_folders_that_change(target))
    with temporary_beside(target) as temporary:
        yield temporary
        for folder in folders:
            _sync_folder(folder)


def _folders_that_change(target: Path) -> Iterator[Path]:
    """Yield the folders that get a new name when `target` is written."""
    for folder in target.parents:
        yield folder
        if folder.exists():
            return


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # some network folders have no such call
            raise
    finally:
        os.close(handle)


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
