"""Outlines, read back by drawing them."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hbseg.report.outlines import only_first, outline
from hbseg.rle import Runs, runs_of

HEIGHT, WIDTH = 60, 80


def drawn(path: str) -> NDArray[np.bool_]:
    """Returns what a browser fills by even and odd, and the line itself."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    contours = [points_of(part) for part in path.split("z")[:-1]]
    cv2.fillPoly(mask, contours, 1)
    return mask.astype(bool)


def points_of(part: str) -> NDArray[np.int32]:
    assert re.fullmatch(r"M\d+ \d+(l-?\d+([ -]-?\d+)*)?", part), part
    numbers = [int(number) for number in re.findall(r"-?\d+", part)]
    steps = np.array(numbers, dtype=np.int32).reshape(-1, 2)
    return np.cumsum(steps, axis=0, dtype=np.int32)


def ellipse(x: int, y: int, width: int, height: int) -> Runs:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    cv2.ellipse(mask, (x, y), (width, height), 20, 0, 360, 1, cv2.FILLED)
    return runs_of(mask.astype(bool))


def mask_of(runs: Runs) -> NDArray[np.bool_]:
    mask = np.zeros(HEIGHT * WIDTH, dtype=bool)
    for start, length in runs:
        mask[start : start + length] = True
    return mask.reshape(HEIGHT, WIDTH)


def test_an_outline_without_tolerance_is_the_mask_itself() -> None:
    runs = ellipse(30, 25, 20, 9)
    assert (drawn(outline(runs, HEIGHT, WIDTH, 0)) == mask_of(runs)).all()


def test_a_tolerance_saves_points_and_moves_the_edge_by_no_more_than_it() -> None:
    runs = ellipse(40, 30, 30, 18)
    exact, short = (outline(runs, HEIGHT, WIDTH, tolerance) for tolerance in (0, 1))
    assert len(short) < len(exact) / 3
    off = drawn(short) ^ mask_of(runs)
    edge = cv2.morphologyEx(mask_of(runs).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5)))
    assert not (off & (edge == 0)).any()


def test_an_empty_mask_has_no_outline_and_one_pixel_has_one() -> None:
    assert outline(np.empty((0, 2), dtype=np.int64), HEIGHT, WIDTH, 1) == ""
    assert outline(np.array([[3 * WIDTH + 7, 1]]), HEIGHT, WIDTH, 1) == "M7 3z"


def test_a_hole_and_a_second_part_are_outlines_of_their_own() -> None:
    ring = only_first(ellipse(25, 30, 20, 20), ellipse(25, 30, 8, 8))
    both = mask_of(ring) | mask_of(ellipse(65, 30, 8, 8))
    assert outline(runs_of(both), HEIGHT, WIDTH, 0.5).count("z") == 3


def test_runs_that_leave_the_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="the picture has 60 x 80"):
        outline(np.array([[HEIGHT * WIDTH - 1, 2]]), HEIGHT, WIDTH, 1)


masks = st.binary(min_size=24, max_size=24).map(
    lambda data: np.unpackbits(np.frombuffer(data, dtype=np.uint8)).reshape(12, 16).astype(bool)
)


@settings(max_examples=60, deadline=None)
@given(masks, masks)
def test_what_only_the_first_mask_has_is_a_difference_of_pixels(
    first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> None:
    found = only_first(runs_of(first), runs_of(second))
    assert found.tolist() == runs_of(first & ~second).tolist()
