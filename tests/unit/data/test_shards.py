from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hbseg.anatomy import BONES
from hbseg.data.annotation import Polygons
from hbseg.data.frames import pack_picture, pack_polygons, unpack_picture, unpack_polygons
from hbseg.data.shards import Sample
from hbseg.errors import ContractError

points = st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
outlines = st.lists(points, min_size=3, max_size=9).map(lambda p: np.array(p, dtype=np.int32))
polygon_sets = st.dictionaries(st.sampled_from(BONES), st.lists(outlines, min_size=1, max_size=3))


@given(polygon_sets)
@settings(deadline=None)
def test_polygons_come_back_exactly_and_in_class_order(polygons: Polygons) -> None:
    found = unpack_polygons(pack_polygons(polygons), source="x")
    assert list(found) == [bone for bone in BONES if bone in polygons]
    for bone, parts in polygons.items():
        assert len(found[bone]) == len(parts)
        for mine, theirs in zip(found[bone], parts, strict=True):
            assert mine.dtype == np.int32
            np.testing.assert_array_equal(mine, theirs)


def test_a_picture_comes_back_exactly() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    frame = pack_picture(picture)
    np.testing.assert_array_equal(unpack_picture(frame, (3, 4), source="x"), picture)
    with pytest.raises(ContractError, match="is damaged"):
        unpack_picture(frame, (4, 4), source="x")
    with pytest.raises(ContractError, match="is damaged"):
        unpack_picture(frame + b"more", (3, 4), source="x")


def test_a_frame_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    with pytest.raises(ContractError, match="expected 100"):
        unpack_picture(bomb, (10, 10), source="x")


def test_a_frame_of_unknown_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(ContractError, match="is damaged"):
        unpack_picture(frame, (10, 10), source="x")


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=30) | st.just([1, 0, 3, 1, 1, 2, 2]))
@settings(max_examples=300, deadline=None)
def test_numbers_that_make_no_polygons_are_refused(numbers: list[int]) -> None:
    frame = zstandard.ZstdCompressor().compress(np.array(numbers, dtype="<i4").tobytes())
    try:
        found = unpack_polygons(frame, source="x")
    except ContractError:
        return
    assert sum(len(p) for parts in found.values() for p in parts) * 2 <= len(numbers)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    with pytest.raises(ContractError, match=r"^x is damaged"):
        unpack_polygons(data, source="x")


ROW = {
    "path": "train/DCM/ID001/a.png",
    "person": "ID001",
    "side": "R",
    "split": "train",
    "fold": 0,
    "height": 2048,
    "width": 2048,
    "shard": "shards/train-00000.bin",
    "picture": {"offset": 0, "length": 10},
    "polygons": {"offset": 10, "length": 10},
}


@pytest.mark.parametrize(
    "change",
    [
        {"shard": "../../etc/passwd"},
        {"shard": "shards/train-00000.bin\n"},
        {"height": 10**6, "width": 10**6},
        {"height": 0},
        {"fold": None},
        {"split": "test"},
        {"picture": {"offset": -1, "length": 10}},
        {"picture": {"offset": 0, "length": 1 << 40}},
        {"side": "left"},
        {"more": 1},
    ],
)
def test_a_row_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    assert Sample.model_validate(ROW).shape == (2048, 2048)
    with pytest.raises(ValidationError):
        Sample.model_validate({**ROW, **change})
