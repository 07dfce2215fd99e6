"""Local files that appear whole or not at all, and what a failed write means for a person."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hbseg.errors import ConflictError, DeniedError, DiskFullError

PRIVATE = ".hbseg-"
"""Names of our own lock and temporary files start so; they are no objects of a folder store."""


def write_atomically(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a file by rename: readers see the old content or the new one, never a part.

    At no moment does anybody have more rights to the new content than `mode` without the umask.

    Raises:
        DiskFullError, DeniedError: see `write_error`; the old file is as it was.
    """
    with replacing(path, mode=mode) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing(target: Path, *, mode: int = 0o666, hint: str | None = None) -> Iterator[Path]:
    """Yield a new file's path beside `target`; it takes `target`'s place if the block succeeds.

    Raises:
        DiskFullError, DeniedError: see `write_error`.
    """
    with temporary_beside(target, mode=mode, hint=hint) as temporary:
        yield temporary
        os.replace(temporary, target)


@contextmanager
def temporary_beside(target: Path, *, mode: int = 0o666, hint: str | None = None) -> Iterator[Path]:
    """Yield a new file's path beside `target`, to be renamed to it; what is left is removed.

    Raises:
        DiskFullError, DeniedError: see `write_error`.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        name = target.parent / f"{PRIVATE}part-{uuid.uuid4().hex}"
        name.touch(mode, exist_ok=False)  # the system takes the umask off, as for any new file
    except OSError as error:
        raise write_error(error, target, hint) from None
    try:
        yield name
    except OSError as error:
        raise write_error(error, target, hint) from None
    finally:
        name.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path, *, hint: str | None = None) -> Iterator[Path]:
    """Yield an empty folder beside `target`; it becomes `target` if the block succeeds.

    Raises:
        ConflictError: `target` is there and not empty, or no folder.
        DiskFullError, DeniedError: see `write_error`.
    """
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ConflictError(f"{target} is there already and not an empty folder", hint)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f"{PRIVATE}part-{uuid.uuid4().hex}"
        temporary.mkdir()
    except OSError as error:
        raise write_error(error, target, hint) from None
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise write_error(error, target, hint) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_error(error: OSError, target: Path, hint: str | None = None) -> Exception:
    """Map an OSError of writing `target` to a user-facing error, or return it unchanged.

    `hint` is the next step of a person who may choose another target.
    """
    if full := disk_full(error, target):
        return full
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DeniedError(f"no permission to write {target}", hint)
    if isinstance(error, NotADirectoryError | FileExistsError):
        return DeniedError(f"cannot write {target}: a file stands where a folder must be", hint)
    if isinstance(error, IsADirectoryError):
        return DeniedError(f"cannot write {target}: it is a folder", hint)
    return error


def disk_full(error: OSError, target: Path, hint: str | None = None) -> DiskFullError | None:
    """Return that the disk of `target` is full, if that is what `error` means."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    free = free_bytes(target)
    return DiskFullError(f"disk full while writing {target} ({free} bytes free)", hint)


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk that `path` is on, or would be on."""
    return shutil.disk_usage(_existing(path)).free


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
