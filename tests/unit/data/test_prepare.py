from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hbseg.anatomy import BONES, INDEX
from hbseg.config.specs import PrepareSpec
from hbseg.data import annotation
from hbseg.data.dataset import open_version
from hbseg.data.formats import READING
from hbseg.data.pictures import encode_png, read_gray
from hbseg.data.prepare import Prepared, _survey_one, prepare
from hbseg.data.raw import scan
from hbseg.errors import BucketMissing, DiskFullError, InvalidInput, NotFoundError, VersionError
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import read_marker, sha256_of_file

SPEC = PrepareSpec(folds=4, images_per_shard=3)


def files(root: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(root)): (sha256_of_file(path), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def contents(root: Path) -> dict[str, str]:
    """Return the sha256 of all files but the marker, which tells the time."""
    return {key: value[0] for key, value in files(root).items() if not key.endswith("_SUCCESS")}


@pytest.fixture(scope="module")
def prepared(raw_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared]:
    folder = tmp_path_factory.mktemp("data")
    return folder, prepare(raw_set, FolderStore(folder), SPEC)


def test_a_version_counts_what_is_in_it(prepared: tuple[Path, Prepared]) -> None:
    _, result = prepared
    assert result.counts.model_dump() == {
        "train_images": 8,
        "train_persons": 4,
        "test_images": 2,
        "test_persons": 1,
        "shards": 4,
    }
    assert not result.unchanged
    assert result.left_out == ()


def test_the_marker_comes_with_all_outputs_and_their_digests(
    prepared: tuple[Path, Prepared],
) -> None:
    folder, result = prepared
    version = folder / "versions" / result.version
    marker = read_marker(FolderStore(version))
    assert marker.step == "prepare"
    assert marker.spec_hash == SPEC.digest()
    assert marker.outputs == contents(version)
    assert {"shards/train-00000.bin", "shards/test-00000.json", "dataset.json"} <= set(
        marker.outputs
    )


def test_pictures_and_masks_come_back_exactly(
    raw_set: Path, prepared: tuple[Path, Prepared]
) -> None:
    dataset = open_version(FolderStore(prepared[0]), None)
    assert dataset.version == prepared[1].version
    samples = dataset.samples("train", 0) + dataset.samples("validation", 0)
    assert len(samples) == 8
    for sample in (samples[0], samples[-1]):
        gray = cv2.imread(str(raw_set / sample.path), cv2.IMREAD_UNCHANGED)
        assert gray is not None
        np.testing.assert_array_equal(dataset.picture(sample), gray[:, :, 0])
        labels = raw_set / sample.path.replace("DCM", "outputs_json").replace(".png", ".json")
        expected = np.zeros((len(BONES), 2048, 2048), dtype=np.uint8)
        for entry in json.loads(labels.read_text())["annotations"]:
            points = np.array(entry["points"], dtype=np.int32)
            cv2.fillPoly(expected[INDEX[entry["label"]]], [points], 1)
        found = annotation.full_masks(dataset.polygons(sample), sample.shape)
        assert np.array_equal(found, expected.astype(bool))


def test_folds_keep_a_persons_hands_together(prepared: tuple[Path, Prepared]) -> None:
    dataset = open_version(FolderStore(prepared[0]), None)
    for fold in range(4):
        inside, outside = dataset.samples("validation", fold), dataset.samples("train", fold)
        assert len(inside) == 2
        assert len(outside) == 6
        assert not {s.person for s in inside} & {s.person for s in outside}
        assert {s.fold for s in inside} == {fold}
        assert [s.path for s in outside] == sorted(s.path for s in outside)
    assert [fold.images for fold in dataset.record.folds] == [2, 2, 2, 2]


def test_the_test_split_has_pictures_and_no_polygons(prepared: tuple[Path, Prepared]) -> None:
    dataset = open_version(FolderStore(prepared[0]), None)
    samples = dataset.samples("test", 0)
    assert [(sample.side, sample.fold) for sample in samples] == [("R", None), ("L", None)]
    assert dataset.picture(samples[0]).shape == (2048, 2048)
    with pytest.raises(InvalidInput, match="has no polygons"):
        dataset.polygons(samples[0])


def test_preparing_again_changes_no_file(raw_set: Path, prepared: tuple[Path, Prepared]) -> None:
    folder, first = prepared
    before = files(folder)
    again = prepare(raw_set, FolderStore(folder), SPEC)
    assert again == Prepared(first.version, first.counts, (), unchanged=True)
    assert files(folder) == before


def test_another_folder_and_processes_give_the_same_bytes(
    raw_copy: Path, tmp_path: Path, prepared: tuple[Path, Prepared]
) -> None:
    calls: list[tuple[str, int, int]] = []
    result = prepare(
        raw_copy,
        FolderStore(tmp_path / "data"),
        SPEC,
        workers=2,
        progress=lambda *call: calls.append(call),
    )
    assert result == prepared[1]
    assert contents(tmp_path / "data") == contents(prepared[0])
    assert calls[0] == ("check", 1, 10)
    assert calls[-1] == ("prepare", 10, 10)


def test_one_changed_label_or_setting_is_another_version(
    raw_copy: Path, tmp_path: Path, edit_labels: Any, prepared: tuple[Path, Prepared]
) -> None:
    data = FolderStore(tmp_path / "data")
    other_seed = prepare(raw_copy, data, SPEC.model_copy(update={"seed": 1}))

    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["points"][0][0] += 1

    edit_labels(raw_copy, "train/outputs_json/ID002/image16611308010.json", change)
    other_label = prepare(raw_copy, data, SPEC)
    assert len({prepared[1].version, other_seed.version, other_label.version}) == 3
    index = json.loads(data.get("index.json"))
    assert index["current"] == other_label.version
    assert {entry["version"] for entry in index["versions"]} == {
        other_seed.version,
        other_label.version,
    }
    assert open_version(data, other_seed.version).record.spec.seed == 1


def test_a_picture_whose_reading_may_change_is_known_by_its_way_too(raw_copy: Path) -> None:
    image = next(image for image in scan(raw_copy) if image.split == "test")
    path = raw_copy / image.path
    gray = read_gray(path.read_bytes(), source="x")
    path.write_bytes(encode_png(np.dstack([gray] * 3)))
    hand, _ = _survey_one(raw_copy, image)
    assert hand.picture_key == hand.picture_sha256

    data = path.read_bytes()
    gamma = b"gAMA" + (45455).to_bytes(4, "big")
    chunk = bytes([0, 0, 0, 4]) + gamma + zlib.crc32(gamma).to_bytes(4, "big")
    path.write_bytes(data[:33] + chunk + data[33:])
    hand, problems = _survey_one(raw_copy, image)
    assert problems == []
    assert hand.picture_key == f"{hand.picture_sha256}/{READING}"


def test_a_set_with_errors_is_refused_with_the_first_of_them(raw_copy: Path) -> None:
    bad = raw_copy / "train/DCM/ID002/image16611308010.png"
    bad.write_bytes(bad.read_bytes()[:999])
    data = FolderStore(raw_copy.parent / "data")
    with pytest.raises(InvalidInput) as caught:
        prepare(raw_copy, data, SPEC)
    assert "has 1 errors, the first in train/DCM/ID002/image16611308010.png: cut off" in str(
        caught.value
    )
    assert f"see: hbseg data check {raw_copy}" in str(caught.value)
    assert list(data.list()) == []


def test_skip_bad_leaves_out_what_has_errors_and_says_so(raw_copy: Path) -> None:
    bad = raw_copy / "train/DCM/ID002/image16611308010.png"
    bad.write_bytes(bad.read_bytes()[:999])
    (raw_copy / "train/outputs_json/ID003/image16611308021.json").unlink()
    data = FolderStore(raw_copy.parent / "data")
    result = prepare(raw_copy, data, SPEC, skip_bad=True)
    assert [(problem.image, problem.rule) for problem in result.left_out] == [
        ("train/DCM/ID002/image16611308010.png", "picture-unreadable"),
        ("train/DCM/ID003/image16611308021.png", "annotation-missing"),
    ]
    assert result.counts.train_images == 6
    again = prepare(raw_copy, data, SPEC, skip_bad=True)
    assert again.unchanged
    assert again.left_out == result.left_out


def spoil_pixels(path: Path) -> None:
    """Write a PNG whose checksums are sound and whose pixels end in the middle."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = struct.pack(">IIBBBBB", 2048, 2048, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b""))


def test_pixels_that_cannot_be_decoded_are_an_error_too(raw_copy: Path) -> None:
    spoil_pixels(raw_copy / "train/DCM/ID002/image16611308010.png")
    data = FolderStore(raw_copy.parent / "data")
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        prepare(raw_copy, data, SPEC)
    assert list(data.list()) == []
    result = prepare(raw_copy, data, SPEC, skip_bad=True)
    assert [problem.rule for problem in result.left_out] == ["picture-unreadable"]
    assert result.counts.train_images == 7
    assert {entry.key.split("/")[1] for entry in data.list("versions/")} == {result.version}


def test_more_folds_than_persons_are_refused(raw_set: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="4 persons cannot fill 5 folds"):
        prepare(raw_set, FolderStore(tmp_path), PrepareSpec())


def test_a_set_without_labels_can_be_prepared(raw_copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(raw_copy / "train")
    data = FolderStore(tmp_path / "data")
    result = prepare(raw_copy, data, SPEC)
    assert (result.counts.train_images, result.counts.test_images) == (0, 2)
    assert open_version(data, None).samples("train", 0) == []


def test_a_missing_raw_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        prepare(tmp_path / "none", FolderStore(tmp_path / "data"), SPEC)


class Counting(FolderStore):
    """A folder that notes the keys that are written."""

    written: list[str]

    def folder(self, path: str) -> Counting:
        below = super().folder(path)
        below.written = self.written
        return below

    def upload(self, key: str, path: Path) -> None:
        self.written.append(key)
        super().upload(key, path)


def test_shards_whose_table_is_there_are_not_made_again(
    raw_set: Path, tmp_path: Path, prepared: tuple[Path, Prepared]
) -> None:
    folder = Path(shutil.copytree(prepared[0], tmp_path / "data"))
    version = folder / "versions" / prepared[1].version
    for name in ("_SUCCESS", "dataset.json", "shards/train-00001.json", "shards/test-00000.bin"):
        (version / name).unlink()
    (version / "shards/train-00002.json").write_text("{")
    data = Counting(folder)
    data.written = []
    prepare(raw_set, data, SPEC)
    assert data.written == [
        "shards/train-00001.bin",
        "shards/train-00002.bin",
        "shards/test-00000.bin",
    ]
    assert contents(folder) == contents(prepared[0])


KILLED = """
import sys
from pathlib import Path
from hbseg.data.prepare import prepare
from hbseg.storage.folder import FolderStore
from hbseg.config.specs import PrepareSpec
prepare(Path(sys.argv[1]), FolderStore(Path(sys.argv[2])), PrepareSpec(folds=4, images_per_shard=1))
"""


def test_a_killed_prepare_goes_on_where_it_was(raw_set: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(raw_set), str(data)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    deadline = time.monotonic() + 60
    while not list(data.glob("versions/*/shards/train-00001.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {key: value for key, value in files(data).items() if key.endswith(".json")}
    assert not list(data.glob("versions/*/_SUCCESS"))
    spec = PrepareSpec(folds=4, images_per_shard=1)
    result = prepare(raw_set, FolderStore(data), spec)
    assert result.counts.shards == 10
    assert kept.items() <= files(data).items()
    fresh = prepare(raw_set, FolderStore(tmp_path / "fresh"), spec)
    assert fresh == result
    assert contents(data) == contents(tmp_path / "fresh")


def test_a_file_that_changes_meanwhile_stops_the_work(raw_copy: Path, tmp_path: Path) -> None:
    victim = raw_copy / "train/DCM/ID004/image16611308031.png"

    def change(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("check", total):
            victim.write_bytes(victim.read_bytes() + b"\0")

    with pytest.raises(InvalidInput, match="changed while the set was prepared"):
        prepare(raw_copy, FolderStore(tmp_path / "data"), SPEC, progress=change)


def test_the_version_does_not_depend_on_dates_or_hidden_files(
    raw_copy: Path, tmp_path: Path, prepared: tuple[Path, Prepared]
) -> None:
    for image in scan(raw_copy):
        os.utime(raw_copy / image.path, (1, 1))
    (raw_copy / "train/DCM/.DS_Store").touch()
    result = prepare(raw_copy, FolderStore(tmp_path / "data"), SPEC)
    assert result.version == prepared[1].version


def test_a_full_disk_is_named_with_its_free_bytes(
    raw_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(pixels: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hbseg.data.writing.pack_picture", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(DiskFullError, match=r"disk full .*scratch \(\d+ bytes free\)"):
        prepare(raw_set, FolderStore(tmp_path / "data"), SPEC)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_storage_is_reached_before_the_set_is_read(raw_set: Path, tmp_path: Path) -> None:
    class NoBucket(FolderStore):
        def get(self, key: str) -> bytes:
            raise BucketMissing("no such bucket: b")

    seen: list[int] = []
    with pytest.raises(BucketMissing):
        prepare(
            raw_set, NoBucket(tmp_path), SPEC, progress=lambda what, done, total: seen.append(done)
        )
    assert not seen


def test_an_index_of_a_newer_version_is_refused_before_the_set_is_read(
    raw_set: Path, tmp_path: Path
) -> None:
    data = FolderStore(tmp_path)
    data.put("index.json", b'{"apiVersion": "hbseg/v2"}')
    seen: list[int] = []
    with pytest.raises(VersionError, match="written as hbseg/v2 by a newer hbseg"):
        prepare(raw_set, data, SPEC, progress=lambda what, done, total: seen.append(done))
    assert not seen


def test_two_test_pictures_of_one_name_are_refused(raw_copy: Path, tmp_path: Path) -> None:
    image = next(image for image in scan(raw_copy) if image.split == "test")
    name = image.path.rpartition("/")[2]
    (raw_copy / "test/DCM/ID9").mkdir()
    shutil.copy(raw_copy / image.path, raw_copy / "test/DCM/ID9" / name)
    with pytest.raises(InvalidInput) as caught:
        prepare(raw_copy, FolderStore(tmp_path / "data"), SPEC)
    assert f"called {name}: {image.path} and test/DCM/ID9/{name}" in str(caught.value)
