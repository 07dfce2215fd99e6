"""Compare-and-swap of documents in storage."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Literal

import pytest

from hbseg.documents import Document
from hbseg.errors import BucketMissing, ConflictError, NotFoundError, SpecError, VersionError
from hbseg.storage.documents import update
from hbseg.storage.folder import FolderStore

KEY = "names.json"
WRITERS = 8


class Names(Document):
    kind: Literal["Names"] = "Names"
    names: tuple[str, ...] = ()


def with_name(name: str, old: Names) -> Names:
    return old if name in old.names else Names(names=(*old.names, name))


def stored(store: FolderStore) -> Names:
    return Names.from_text(store.get(KEY), source=KEY)


class Raced(FolderStore):
    """A folder in which another writer comes first, as often as `rivals` has names."""

    rivals: list[str]

    def put_if_match(self, key: str, data: bytes, tag: str) -> bool:
        self._lose()
        return super().put_if_match(key, data, tag)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._lose()
        return super().put_if_absent(key, data)

    def _lose(self) -> None:
        if self.rivals:
            name, *self.rivals = self.rivals
            rival = Names(names=(name,))
            update(
                FolderStore(Path(self.url)),
                KEY,
                Names,
                lambda old: with_name(name, old),
                initial=rival,
            )


def raced(folder: Path, *rivals: str) -> Raced:
    store = Raced(folder)
    store.rivals = list(rivals)
    return store


def test_no_change_is_lost_when_all_writers_have_read_the_same_document(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(KEY, Names().to_json())
    all_have_read = Barrier(WRITERS)
    calls: list[str] = []

    def write(name: str) -> Names:
        def change(old: Names) -> Names:
            calls.append(name)
            if calls.count(name) == 1:
                all_have_read.wait(timeout=60)
            return with_name(name, old)

        return update(store, KEY, Names, change)

    names = [f"n{number}" for number in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        written = list(pool.map(write, names))

    assert sorted(stored(store).names) == names
    assert sorted(len(one.names) for one in written) == list(range(1, WRITERS + 1))
    assert len(calls) >= 2 * WRITERS - 1  # one writer won the first round, the others read again


def test_of_all_that_find_no_document_one_writes_the_initial_one(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    start = Barrier(WRITERS)

    def write(number: int) -> None:
        start.wait(timeout=60)
        name = f"n{number}"
        update(store, KEY, Names, lambda old: with_name(name, old), initial=Names(names=(name,)))

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))

    assert sorted(stored(store).names) == [f"n{number}" for number in range(WRITERS)]


def test_a_rival_that_creates_the_document_first_is_kept(tmp_path: Path) -> None:
    store = raced(tmp_path, "a")

    update(store, KEY, Names, lambda old: with_name("b", old), initial=Names(names=("b",)))

    assert stored(store).names == ("a", "b")


def test_an_equal_document_is_not_written(tmp_path: Path) -> None:
    class ReadOnly(FolderStore):
        def put_if_match(self, key: str, data: bytes, tag: str) -> bool:
            raise AssertionError(f"{key} was written")

    FolderStore(tmp_path).put(KEY, Names(names=("a",)).to_json())

    same = update(ReadOnly(tmp_path), KEY, Names, lambda old: with_name("a", old))

    assert same.names == ("a",)


def test_limited_tries_end_in_a_conflict_and_one_more_try_would_do(tmp_path: Path) -> None:
    FolderStore(tmp_path).put(KEY, Names().to_json())

    with pytest.raises(ConflictError, match=r"names\.json was changed by others at each of 2 tr"):
        update(raced(tmp_path, "a", "b"), KEY, Names, lambda old: with_name("z", old), tries=2)
    update(raced(tmp_path, "c", "d"), KEY, Names, lambda old: with_name("z", old), tries=3)

    assert stored(FolderStore(tmp_path)).names == ("a", "b", "c", "d", "z")


def test_an_error_of_the_change_leaves_the_document(tmp_path: Path) -> None:
    def refuse(old: Names) -> Names:
        raise ConflictError("not yours")

    store = FolderStore(tmp_path)
    store.put(KEY, Names(names=("a",)).to_json())

    with pytest.raises(ConflictError, match="not yours"):
        update(store, KEY, Names, refuse)
    assert stored(store).names == ("a",)


def test_what_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    class NoBucket(FolderStore):
        def get_tagged(self, key: str) -> tuple[bytes, str]:
            raise BucketMissing("no such bucket: b")

    store = FolderStore(tmp_path)
    with pytest.raises(NotFoundError):
        update(store, KEY, Names, lambda old: old)
    with pytest.raises(BucketMissing):
        update(NoBucket(tmp_path), KEY, Names, lambda old: old, initial=Names())
    store.put(KEY, b'{"kind": "Names", "name": "a"}')
    with pytest.raises(VersionError, match=r"names\.json has the key name, which hbseg .* newer"):
        update(store, KEY, Names, lambda old: old)
    store.put(KEY, b'{"kind": "Nouns"}')
    with pytest.raises(SpecError, match=r"names\.json: kind: input should be 'Names'"):
        update(store, KEY, Names, lambda old: old)
