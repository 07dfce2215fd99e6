from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hbseg.data.raw_source import JOURNAL, fetch, is_raw
from hbseg.errors import DiskFullError, InvalidInput, NotFoundError, UnreachableError
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import sha256_of
from hbseg.storage.store import Entry

PICTURES = ("train/DCM/ID001/image1_R.png", "train/DCM/ID001/image2_L.PNG", "test/DCM/ID9/손.jpg")
FILES = (*PICTURES, "train/outputs_json/ID001/image1_R.json")


class TaggedStore(FolderStore):
    """A folder whose listings tell tags, as S3's do; it remembers what was downloaded."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.downloads: list[str] = []
        self.most_at_once = 0
        self._running = 0
        self._counting = threading.Lock()

    def list(self, prefix: str = "") -> Iterator[Entry]:
        for entry in super().list(prefix):
            yield replace(entry, tag=sha256_of(self.get(entry.key)))

    def download(self, key: str, path: Path) -> None:
        with self._counting:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        super().download(key, path)
        with self._counting:
            self._running -= 1
            self.downloads.append(key)


@pytest.fixture
def source(tmp_path: Path) -> TaggedStore:
    store = TaggedStore(tmp_path / "source")
    for key in FILES:
        store.put(key, key.encode())
    return store


def local_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != JOURNAL
    }


def test_a_set_is_fetched_whole_and_nothing_beside_it(source: TaggedStore, tmp_path: Path) -> None:
    source.put("train/DCM/ID001/notes.txt", b"no picture")
    source.put("README.png", b"not in a person's folder")

    fetched = fetch(source, tmp_path / "raw")

    assert local_files(tmp_path / "raw") == {key: key.encode() for key in FILES}
    assert (fetched.files, fetched.kept) == (4, 0)
    assert fetched.bytes == sum(len(key.encode()) for key in FILES)


def test_what_is_here_is_not_fetched_again(source: TaggedStore, tmp_path: Path) -> None:
    fetch(source, tmp_path / "raw")
    source.downloads.clear()

    assert fetch(source, tmp_path / "raw").kept == 4
    assert source.downloads == []


def test_only_what_changed_in_storage_is_fetched_again(source: TaggedStore, tmp_path: Path) -> None:
    fetch(source, tmp_path / "raw")
    source.downloads.clear()
    same_size = PICTURES[0].encode().swapcase()
    source.put(PICTURES[0], same_size)

    assert fetch(source, tmp_path / "raw").kept == 3
    assert source.downloads == [PICTURES[0]]
    assert (tmp_path / "raw" / PICTURES[0]).read_bytes() == same_size


def test_what_is_gone_from_storage_goes_here_too(source: TaggedStore, tmp_path: Path) -> None:
    fetch(source, tmp_path / "raw")
    source.delete(PICTURES[2])
    (tmp_path / "raw/train/DCM/ID001/image1_R.png.4fA2").write_text("a cut download")

    fetch(source, tmp_path / "raw")

    assert set(local_files(tmp_path / "raw")) == set(FILES) - {PICTURES[2]}


def test_a_cut_fetch_goes_on(source: TaggedStore, tmp_path: Path) -> None:
    class Cut(TaggedStore):
        def download(self, key: str, path: Path) -> None:
            if key == FILES[3]:
                raise UnreachableError("no answer")
            super().download(key, path)

    with pytest.raises(UnreachableError, match="no answer"):
        fetch(Cut(tmp_path / "source"), tmp_path / "raw", threads=1)
    with (tmp_path / "raw" / JOURNAL).open("a") as journal:
        journal.write('["train/DCM/ID0')

    assert fetch(source, tmp_path / "raw").kept == 3
    assert source.downloads == [FILES[3]]
    source.downloads.clear()
    assert fetch(source, tmp_path / "raw").kept == 4


def test_a_file_of_another_size_is_fetched_again(source: TaggedStore, tmp_path: Path) -> None:
    fetch(source, tmp_path / "raw")
    source.downloads.clear()
    (tmp_path / "raw" / PICTURES[1]).write_text("cut")

    fetch(source, tmp_path / "raw")

    assert source.downloads == [PICTURES[1]]


def test_without_tags_nothing_is_taken_for_known(source: TaggedStore, tmp_path: Path) -> None:
    untagged = FolderStore(tmp_path / "source")
    fetch(untagged, tmp_path / "raw")

    assert fetch(untagged, tmp_path / "raw").kept == 0


def test_no_more_files_are_on_their_way_than_threads(source: TaggedStore, tmp_path: Path) -> None:
    for number in range(50):
        source.put(f"train/DCM/ID002/{number}.png", os.urandom(1000))
    told: list[tuple[str, int, int]] = []

    fetch(source, tmp_path / "raw", threads=3, progress=lambda *step: told.append(step))

    assert source.most_at_once <= 3
    assert told == [("fetch", done, 54) for done in range(1, 55)]


def test_a_place_without_a_set_is_refused_with_the_layout(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "empty")
    store.put("DCM/ID001/a.png", b"")

    with pytest.raises(NotFoundError, match=r"no raw set in .*empty; expected train/DCM/"):
        fetch(store, tmp_path / "raw")


class Listing(FolderStore):
    """A store whose listing tells what no folder can hold."""

    def __init__(self, root: Path, *entries: Entry) -> None:
        super().__init__(root)
        self._entries = entries

    def list(self, prefix: str = "") -> Iterator[Entry]:
        return (entry for entry in self._entries if entry.key.startswith(prefix))


@pytest.mark.parametrize(
    "key",
    ["train/DCM/ID1/a\nb.png", "train/DCM/ID1/a\\..\\b.png", f"train/DCM/ID1/{'x' * 252}.png"],
)
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InvalidInput, match="not a valid key"):
        fetch(Listing(tmp_path, Entry(key, 1)), tmp_path / "raw")


def test_a_set_larger_than_the_disk_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    huge = Entry(PICTURES[0], 1 << 60)

    with pytest.raises(DiskFullError, match=r"needs 1,152,921,504,606,846,976 bytes more"):
        fetch(Listing(tmp_path, huge), tmp_path / "raw")


@pytest.mark.parametrize(
    "key",
    [
        "train/DCM/../a.png",
        "train/DCM/ID1/.hidden.png",
        "train/DCM/.ID1/a.png",
        "train/DCM/ID1/more/a.png",
        "train/DCM/a.png",
        "test/outputs_json/ID1/a.json",
        "other/DCM/ID1/a.png",
        "train/DCM/ID1/a.json",
        "train/outputs_json/ID1/a.png",
    ],
)
def test_a_key_outside_the_layout_does_not_count(key: str) -> None:
    assert not is_raw(key)
