from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hbseg.config.specs import PrepareSpec
from hbseg.data.dataset import Dataset, open_version
from hbseg.data.prepare import prepare
from hbseg.data.versions import Counts, VersionEntry, publish, version_hash
from hbseg.errors import (
    ConflictError,
    ContractError,
    InvalidInput,
    NotFoundError,
    SpecError,
    VersionError,
)
from hbseg.storage.folder import FolderStore


@pytest.fixture(scope="module")
def pristine(raw_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare(raw_set, FolderStore(folder), PrepareSpec(folds=2, images_per_shard=5))
    return folder


@pytest.fixture
def data(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "data"))


def version_of(data: Path) -> Path:
    return next((data / "versions").iterdir())


def test_no_dataset_is_not_found_and_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="run: hbseg data prepare SRC"):
        open_version(FolderStore(tmp_path), None)


def test_an_unknown_or_unfinished_version_is_not_found(data: Path) -> None:
    with pytest.raises(NotFoundError, match="no finished dataset version 0123456789abcdef"):
        open_version(FolderStore(data), "0123456789abcdef")
    (version_of(data) / "_SUCCESS").unlink()
    with pytest.raises(NotFoundError, match="no finished dataset version"):
        open_version(FolderStore(data), None)


@pytest.mark.parametrize("version", ["", "../../etc", "0123", "0123456789ABCDEF", "a" * 17])
def test_what_is_no_hash_is_refused(data: Path, version: str) -> None:
    with pytest.raises(InvalidInput, match="expected 16 hexadecimal digits"):
        open_version(FolderStore(data), version)


def test_a_fold_that_is_not_there_is_refused(pristine: Path) -> None:
    dataset = open_version(FolderStore(pristine))
    with pytest.raises(SpecError, match=r"fold 2: dataset .* has folds 0 to 1"):
        dataset.samples("train", 2)


def test_picture_and_polygons_come_with_one_read(pristine: Path) -> None:
    dataset = open_version(FolderStore(pristine))
    sample = dataset.samples("train", 0)[0]
    picture, polygons = dataset.load(sample)
    np.testing.assert_array_equal(picture, dataset.picture(sample))
    assert list(polygons) == list(dataset.polygons(sample))


def test_a_dataset_can_be_sent_to_another_process(pristine: Path) -> None:
    dataset = open_version(FolderStore(pristine))
    sample = dataset.samples("train", 0)[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert isinstance(copy, Dataset)
    assert copy.version == dataset.version
    np.testing.assert_array_equal(copy.picture(sample), dataset.picture(sample))


@pytest.mark.parametrize("where", ["picture", "polygons"])
def test_a_flipped_byte_in_a_shard_is_found(data: Path, where: str) -> None:
    dataset = open_version(FolderStore(data))
    sample = dataset.samples("train", 0)[0]
    span = getattr(sample, where)
    path = version_of(data) / sample.shard
    content = bytearray(path.read_bytes())
    content[span.offset + span.length - 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ContractError, match=r"train-00000.bin .*is damaged.*data prepare SRC"):
        getattr(dataset, where)(sample)


def test_a_cut_off_shard_is_found(data: Path) -> None:
    dataset = open_version(FolderStore(data))
    sample = dataset.samples("train", 0)[-1]
    path = version_of(data) / sample.shard
    path.write_bytes(path.read_bytes()[: sample.picture.offset + 100])
    with pytest.raises(ContractError, match="is damaged"):
        dataset.picture(sample)
    path.unlink()
    with pytest.raises(ContractError, match="is missing"):
        dataset.picture(sample)


@pytest.mark.parametrize(
    "key", ["dataset.json", "shards/train-00000.json", "shards/test-00000.json"]
)
def test_a_changed_document_is_found_by_its_digest(data: Path, key: str) -> None:
    path = version_of(data) / key
    path.write_bytes(path.read_bytes().replace(b"2048", b"2049").replace(b"seed", b"Seed"))
    with pytest.raises(ContractError, match="damaged"):
        open_version(FolderStore(data)).samples("train", 0)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"kind": "DatasetIndex"}']
)
def test_a_broken_index_is_refused(data: Path, content: bytes) -> None:
    (data / "index.json").write_bytes(content)
    with pytest.raises(ContractError, match=r"index\.json is damaged"):
        open_version(FolderStore(data))


def test_an_index_of_a_newer_version_is_refused_and_kept(data: Path) -> None:
    newer = b'{"apiVersion": "hbseg/v2", "kind": "DatasetIndex"}'
    (data / "index.json").write_bytes(newer)
    store = FolderStore(data)
    with pytest.raises(VersionError, match=r"index\.json was written as hbseg/v2"):
        open_version(store)
    with pytest.raises(VersionError, match=r"index\.json was written as hbseg/v2"):
        publish(store, entry("d"))
    assert store.get("index.json") == newer


def test_an_index_that_points_elsewhere_is_refused(data: Path) -> None:
    index: dict[str, Any] = json.loads((data / "index.json").read_text())
    index["current"] = "../../secrets"
    (data / "index.json").write_text(json.dumps(index))
    with pytest.raises(ContractError, match="current"):
        open_version(FolderStore(data))


def entry(version: str) -> VersionEntry:
    return VersionEntry(version=version * 16, counts=Counts())


class Raced(FolderStore):
    """A folder whose index somebody else changes just before each of our writes."""

    rivals: list[str]

    def put_if_match(self, key: str, data: bytes, tag: str) -> bool:
        if self.rivals:
            publish(FolderStore(Path(self.url)), entry(self.rivals.pop()))
        return super().put_if_match(key, data, tag)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.rivals:
            publish(FolderStore(Path(self.url)), entry(self.rivals.pop()))
        return super().put_if_absent(key, data)


def test_no_version_is_lost_when_others_publish_at_the_same_time(tmp_path: Path) -> None:
    store = Raced(tmp_path)
    store.rivals = ["c", "b", "a"]
    publish(store, entry("d"))
    index = json.loads(store.get("index.json"))
    assert [known["version"][0] for known in index["versions"]] == ["a", "b", "c", "d"]
    assert index["current"] == "d" * 16


def test_endless_rivals_end_in_a_conflict(tmp_path: Path) -> None:
    store = Raced(tmp_path)
    store.rivals = ["a", "b"] * 20
    with pytest.raises(ConflictError, match="changed by others"):
        publish(store, entry("d"))


def test_the_hash_does_not_depend_on_the_order_of_images() -> None:
    images = [("b", "1", "2"), ("a", "3", None)]
    spec = PrepareSpec()
    assert version_hash(spec, images) == version_hash(spec, images[::-1])
    assert version_hash(spec, images) != version_hash(spec, images[:1])
