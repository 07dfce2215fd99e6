from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbseg import rle
from hbseg.anatomy import BONES, INDEX
from hbseg.data import annotation
from hbseg.errors import InvalidInput, NotFoundError

TRIANGLE = [[1, 1], [20, 3], [9, 17]]


def file_of(*entries: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"annotations": list(entries), **more}).encode()


def entry(label: str, points: object) -> dict[str, Any]:
    return {"label": label, "points": points}


def brute_force(polygons: annotation.Polygons, shape: tuple[int, int]) -> np.ndarray:
    full = np.zeros((len(BONES), *shape), dtype=np.uint8)
    for bone, outlines in polygons.items():
        for outline in outlines:
            cv2.fillPoly(full[INDEX[bone]], [outline], 1)
    return full.astype(bool)


places = st.integers(-40, 120) | st.integers(-annotation.FARTHEST, annotation.FARTHEST)
coordinates = st.tuples(places, places)
outlines = st.lists(coordinates, min_size=3, max_size=12).map(
    lambda points: np.array(points, dtype=np.int32)
)
polygon_sets = st.dictionaries(
    st.sampled_from(BONES), st.lists(outlines, min_size=1, max_size=3), max_size=5
)
shapes = st.tuples(st.integers(1, 80), st.integers(1, 80))


@given(polygons=polygon_sets, shape=shapes)
@settings(max_examples=300, deadline=None)
def test_masks_drawn_in_boxes_and_their_runs_equal_fill_poly_on_the_whole_picture(
    polygons: annotation.Polygons, shape: tuple[int, int]
) -> None:
    expected = brute_force(polygons, shape)
    np.testing.assert_array_equal(annotation.full_masks(polygons, shape), expected)
    found = annotation.runs(polygons, shape)
    assert len(found) == len(BONES)
    for mask, runs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(runs, rle.runs_of(mask))


def test_masks_of_a_file_are_what_fill_poly_draws_at_native_size(raw_set: Path) -> None:
    path = sorted(raw_set.glob("train/outputs_json/*/*.json"))[0]
    content = json.loads(path.read_text())
    expected = np.zeros((len(BONES), 2048, 2048), dtype=np.uint8)
    for item in content["annotations"]:
        points = np.array(item["points"], dtype=np.int32)
        cv2.fillPoly(expected[INDEX[item["label"]]], [points], 1)
    found = annotation.masks(path, (2048, 2048))
    assert found.dtype == np.bool_
    assert np.array_equal(found, expected.astype(bool))


def test_edge_pixels_belong_to_the_mask(tmp_path: Path) -> None:
    path = tmp_path / "square.json"
    path.write_bytes(file_of(entry("Ulna", [[2, 2], [4, 2], [4, 4], [2, 4]])))
    mask = annotation.masks(path, (8, 8))[INDEX["Ulna"]]
    assert mask[2:5, 2:5].all()
    assert mask.sum() == 9


def test_a_second_polygon_is_a_union_even_where_both_overlap() -> None:
    square = [[0, 0], [9, 0], [9, 9], [0, 9]]
    other = [[5, 5], [14, 5], [14, 14], [5, 14]]
    polygons = annotation.read(file_of(entry("Ulna", square), entry("Ulna", other)), source="x")
    assert annotation.full_masks(polygons, (20, 20))[INDEX["Ulna"]].sum() == 100 + 100 - 25


def test_polygons_come_in_class_order_whatever_the_files_order() -> None:
    data = file_of(*(entry(bone, TRIANGLE) for bone in reversed(BONES)))
    assert tuple(annotation.read(data, source="x")) == BONES


def test_only_annotations_with_label_and_points_are_needed() -> None:
    polygons = annotation.read(file_of(entry("Radius", TRIANGLE)), source="x")
    np.testing.assert_array_equal(polygons["Radius"][0], TRIANGLE)
    assert polygons["Radius"][0].dtype == np.int32


def test_whole_numbers_written_with_a_point_are_taken() -> None:
    polygons = annotation.read(file_of(entry("Radius", [[1.0, 2], [3, 4.0], [5, 6]])), source="x")
    np.testing.assert_array_equal(polygons["Radius"][0], [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not readable as JSON"),
        (b'{"annotations": [{"label": "Uln', "cut off"),
        (b"\xff\xfe\x00", "not readable as JSON"),
        (b"[]", "list `annotations`"),
        (b'{"annotations": {}}', "list `annotations`"),
        (b'{"shapes": []}', "list `annotations`"),
        (b'{"annotations": [3]}', "annotation 0: expected an object"),
        (b'{"annotations": [{"label": 3, "points": []}]}', "label is 3"),
        (b'{"annotations": [{"label": "Ulna", "points": "a"}]}', "no list of [x, y]"),
        (b'{"annotations": [{"label": "Ulna", "points": ["ab", "cd"]}]}', "no pairs"),
        (b'{"annotations": [{"label": "Ulna", "points": [[1, true], [1, 2]]}]}', "no pairs"),
        (b'{"annotations": [{"label": "Ulna", "points": [[1, NaN], [1, 2]]}]}', "NaN"),
        (b'{"annotations": [{"label": "Ulna", "points": [[1, 1e999]]}]}', "coordinate inf"),
        (b"[" * 100_000, "nested too deep"),
        (file_of(entry("Ulna", [[1, 2, 3]] * 3)), "no pairs"),
        (file_of(entry("Ulna", [[1, 2.5]] * 3)), "coordinate 2.5"),
        (file_of(entry("Ulna", [[1, 10**7]] * 3)), "coordinate 1e+07"),
        (file_of(entry("Ulna", [[1, 10**400]] * 3)), "coordinate inf"),
        (b'{"annotations": [{"label": "Ulna", "points": [[1, 1' + b"0" * 5000, "JSON"),
        (file_of(entry("Ulna", [[1, 2], [3, 4]])), "Ulna has 2 points, a polygon needs 3"),
        (file_of(entry("Ulna", [])), "Ulna has 0 points"),
    ],
)
def test_what_is_no_annotation_is_refused_in_one_line(data: bytes, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        annotation.read(data, source="hand.json")
    assert expected in str(caught.value)
    assert str(caught.value).startswith("hand.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("label", "near"), [("Trapezum", "Trapezium"), ("Finger-3", "finger-3"), ("ulna", "Ulna")]
)
def test_an_unknown_label_names_the_nearest_known_one(label: str, near: str) -> None:
    with pytest.raises(InvalidInput, match=f"unknown label '{label}'; did you mean {near}\\?"):
        annotation.read(file_of(entry(label, TRIANGLE)), source="x")


def test_a_file_of_absurd_size_is_refused_unread() -> None:
    with pytest.raises(InvalidInput, match="expected at most"):
        annotation.parse(b" " * (annotation.MAX_BYTES + 1), source="x")


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot read"):
        annotation.masks(tmp_path / "none.json", (8, 8))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["annotations", "label", "points", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {"label": st.sampled_from(["Ulna", "finger-1"]) | json_values, "points": json_values}
)


@given(
    st.binary(max_size=200)
    | st.lists(entries | json_values, max_size=3).map(
        lambda items: json.dumps({"annotations": items}).encode()
    )
)
@settings(max_examples=400, deadline=None)
def test_hostile_bytes_give_polygons_or_a_refusal_and_nothing_else(data: bytes) -> None:
    try:
        polygons = annotation.read(data, source="x")
    except InvalidInput:
        return
    assert all(len(points) >= 3 for parts in polygons.values() for points in parts)
