from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hbseg.errors import DiskFullError
from hbseg.storage.folder import FolderStore

WRITES: dict[str, Callable[[FolderStore, str, Path], object]] = {
    "put": lambda store, key, source: store.put(key, source.read_bytes()),
    "put_if_absent": lambda store, key, source: store.put_if_absent(key, source.read_bytes()),
    "upload": lambda store, key, source: store.upload(key, source),
}
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    yield
    os.umask(before)


@each_write
@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_files_have_the_mode_that_the_umask_leaves(
    store: FolderStore,
    source: Path,
    tmp_path: Path,
    write: Callable[[FolderStore, str, Path], object],
    mask: int,
    mode: int,
) -> None:
    with umask(mask):
        write(store, "a/b", source)
        store.put_if_match("a/b", b"next", store.get_tagged("a/b")[1])
        store.download("a/b", tmp_path / "out")

    for path in (tmp_path / "store/a/b", tmp_path / "out"):
        assert stat.S_IMODE(path.stat().st_mode) == mode


@each_write
def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_call_returns(
    store: FolderStore,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[FolderStore, str, Path], object],
) -> None:
    target = tmp_path / "store/new/folder/name"
    synced: list[tuple[str, bytes | None]] = []

    def fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        content = path.read_bytes() if path.is_file() else None
        synced.append((path.name if path.is_dir() else "file", content))
        assert target.exists() == path.is_dir()

    monkeypatch.setattr(os, "fsync", fsync)
    write(store, "new/folder/name", source)

    assert synced[0] == ("file", b"content")
    assert [name for name, _ in synced[1:]] == ["folder", "new", "store", tmp_path.name]

    target.unlink()
    synced.clear()
    write(store, "new/folder/name", source)
    assert [name for name, _ in synced] == ["file", "folder"]


def test_a_file_system_that_syncs_no_folders_is_no_error(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    store.put("a", b"x")
    assert store.get("a") == b"x"


def test_a_disk_that_is_full_at_the_sync_leaves_the_old_object(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.put("a", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="disk full while writing"):
        store.put("a", b"new")
    assert store.get("a") == b"old"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a"]
