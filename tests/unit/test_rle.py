from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hbseg import rle

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = SHAPES.flatmap(lambda shape: arrays(np.bool_, shape))
PAIRS = SHAPES.flatmap(lambda s: st.tuples(arrays(np.bool_, s), arrays(np.bool_, s)))


def plain_code(mask: NDArray[np.bool_]) -> str:
    """Pixel by pixel, as the format is described."""
    code: list[int] = []
    previous = False
    for position, value in enumerate(mask.ravel().tolist(), start=1):
        if value and not previous:
            code += [position, 0]
        if value:
            code[-1] += 1
        previous = value
    return " ".join(map(str, code))


@given(MASKS)
def test_a_code_is_what_the_description_gives(mask: NDArray[np.bool_]) -> None:
    assert rle.encode(mask) == plain_code(mask)


@given(MASKS)
def test_a_mask_survives_the_way_there_and_back(mask: NDArray[np.bool_]) -> None:
    assert (rle.decode(rle.encode(mask), mask.shape) == mask).all()


@given(PAIRS)
def test_area_overlap_and_dice_of_runs_are_those_of_the_masks(
    pair: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> None:
    first, second = pair
    runs, others = rle.runs_of(first), rle.runs_of(second)
    assert rle.area(runs) == first.sum()
    assert rle.overlap(runs, others) == (first & second).sum()
    expected = (2 * (first & second).sum() + 1e-4) / (first.sum() + second.sum() + 1e-4)
    assert rle.dice(runs, others) == pytest.approx(expected)


@given(MASKS, st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_a_box_gives_the_runs_of_the_whole_picture(
    box: NDArray[np.bool_], left: int, top: int, right: int
) -> None:
    picture = np.zeros((top + box.shape[0] + 2, left + box.shape[1] + right), dtype=bool)
    picture[top : top + box.shape[0], left : left + box.shape[1]] = box
    runs = rle.runs_in_box(box, left, top, picture.shape[1])
    assert rle.to_text(runs) == rle.encode(picture)


def test_a_patch_is_the_mask_in_its_box() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        height, width = rng.integers(1, 12, 2).tolist()
        mask = rng.random((height, width)) < rng.choice([0.1, 0.5, 0.95])
        if not mask.any():
            continue
        patch = rle.patch_of(rle.runs_of(mask), height, width)
        again = np.zeros_like(mask)
        rows, columns = patch.mask.shape
        again[patch.top : patch.top + rows, patch.left : patch.left + columns] = patch.mask
        assert np.array_equal(again, mask)


def test_two_empty_masks_agree() -> None:
    empty = rle.from_text("", 100)
    assert rle.dice(empty, empty) == 1
    assert rle.encode(np.zeros((3, 3), dtype=bool)) == ""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1", "odd number"),
        ("1 2 3", "odd number"),
        ("0 1", "not a positive number: '0'"),
        ("1 0", "not a positive number: '0'"),
        ("-1 2", "not a positive number: '-1'"),
        ("1 2.5", "not a positive number"),
        ("1  2", "not a positive number: ''"),
        (" 1 2", "not a positive number: ''"),
        ("1 2\n", "not a positive number"),
        ("one two", "not a positive number: 'one'"),
        ("٣ 1", "not a positive number"),
        ("1٣ 1", "not a positive number: '1٣'"),
        ("1 1 3 1٣", "not a positive number: '1٣'"),
        ("1 3 3 1", r"run 3 1 overlaps the one before it \(1 3\)"),
        ("5 1 1 1", "run 1 1 is out of order: it starts before 5 1"),
        ("9 2", "run 9 2 leaves the picture of 9 pixels"),
        ("99999999999999999999 1", "not a positive number of 20 digits"),
    ],
)
def test_a_bad_code_is_refused_with_its_reason(code: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        rle.decode(code, (3, 3))


@given(st.text(alphabet="0123456789 -.x", max_size=30))
def test_any_text_is_decoded_or_refused(code: str) -> None:
    try:
        mask = rle.decode(code, (6, 7))
    except ValueError:
        return
    assert rle.area(rle.runs_of(mask)) == sum(int(n) for n in code.split()[1::2])
