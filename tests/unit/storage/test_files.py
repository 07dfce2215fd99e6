"""Local files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hbseg.errors import ConflictError, DeniedError, DiskFullError
from hbseg.storage.files import disk_full, free_bytes, new_folder, replacing, write_atomically


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_written_with_its_folders_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"

    write_atomically(path, b"old")
    write_atomically(path, b"new")

    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def full_when_half_is_written(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    full()


@pytest.mark.parametrize(
    ("where", "method", "failure"),
    [(Path, "write_bytes", full_when_half_is_written), (os, "replace", full)],
)
def test_a_disk_that_is_full_leaves_the_old_file_and_no_part(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    method: str,
    failure: Callable[..., None],
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(where, method, failure)

    with pytest.raises(DiskFullError, match=r"disk full while writing .*/file \(\d+ bytes free\)"):
        write_atomically(path, b"new and longer")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_any_failure_of_the_block_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half of it")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a" / "folder"

    def fail_half_way() -> None:
        with new_folder(target) as temporary:
            (temporary / "half").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert list(target.parent.iterdir()) == []

    target.mkdir()  # an empty one may be there
    with new_folder(target) as temporary:
        (temporary / "file").touch()
        assert list(target.iterdir()) == []
    assert list(target.parent.rglob("*")) == [target, target / "file"]


def test_a_folder_with_files_or_a_file_is_no_place_for_a_new_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConflictError, match="there already"), new_folder(target):
            pass
    with pytest.raises(DeniedError, match="a file stands"), new_folder(tmp_path / "file" / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_secret_is_its_owner_s_alone_from_the_first_moment_on(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        for name, mode, expected in (("secret", 0o600, 0o600), ("open", 0o666, 0o644)):
            with replacing(tmp_path / name, mode=mode) as temporary:
                assert mode_of(temporary) == expected
            assert mode_of(tmp_path / name) == expected
    finally:
        os.umask(before)


def test_what_stands_in_the_way_is_told_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()

    for target, reason in (
        (tmp_path / "file" / "new", "a file stands where a folder must be; choose another --to"),
        (tmp_path / "folder", "it is a folder; choose another --to"),
    ):
        refused = pytest.raises(DeniedError, match=f"cannot write {target}: {reason}")
        with refused, replacing(target, hint="choose another --to") as temporary:
            temporary.write_bytes(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_only_a_full_disk_or_quota_is_called_full(tmp_path: Path) -> None:
    not_there = tmp_path / "not" / "there"

    for code in (errno.ENOSPC, errno.EDQUOT):
        told = disk_full(OSError(code, "x"), not_there, "free some space")
        assert told is not None
        assert told.hint == "free some space"
    assert disk_full(OSError(errno.EIO, "x"), not_there) is None
    assert free_bytes(not_there) > 0
