from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hbseg import rle
from hbseg.ml.pieces import largest_piece, second_part

Mask = NDArray[np.bool_]


def random_masks(seed: int) -> Iterator[Mask]:
    """Specks, and blobs with holes; some end at the edge of a row and begin the next one."""
    rng = np.random.default_rng(seed)
    specks = rng.random((14, 17)) < rng.choice([0.15, 0.3, 0.6, 0.95])
    specks[7, 8] = True
    yield specks
    blobs = cv2.GaussianBlur(rng.random((40, 33)), (0, 0), rng.uniform(1, 4))
    yield blobs > np.quantile(blobs, rng.uniform(0.2, 0.9))


def areas_of_parts(mask: Mask) -> list[int]:
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return sorted(stats[1:, cv2.CC_STAT_AREA].tolist(), reverse=True)


def without_holes(mask: Mask) -> Mask:
    """What does not reach the picture's edge without a step over a corner is a hole."""
    ground = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, parts = cv2.connectedComponents(ground, connectivity=4)
    return np.asarray(parts[1:-1, 1:-1] != parts[0, 0])


@pytest.mark.parametrize("seed", range(15))
def test_the_second_part_is_that_of_all_8_connected_parts(seed: int) -> None:
    for mask in random_masks(seed):
        areas = [*areas_of_parts(mask), 0]
        assert second_part(rle.runs_of(mask), *mask.shape) == areas[1] / areas[0]


@pytest.mark.parametrize("pixels", [[(0, 4), (2, 0)], [(0, 2), (2, 2)], [(0, 0), (0, 2)]])
def test_pixels_that_do_not_touch_are_two_parts(pixels: list[tuple[int, int]]) -> None:
    mask = np.zeros((3, 5), dtype=bool)
    for place in pixels:
        mask[place] = True
    assert second_part(rle.runs_of(mask), 3, 5) == 1.0
    assert rle.area(largest_piece(rle.runs_of(mask), 3, 5)) == 1


@pytest.mark.parametrize("seed", range(15))
def test_a_piece_is_the_largest_part_after_all_holes_are_filled(seed: int) -> None:
    for mask in random_masks(seed):
        found = rle.decode(rle.to_text(largest_piece(rle.runs_of(mask), *mask.shape)), mask.shape)
        filled = without_holes(mask)
        assert found.sum() == areas_of_parts(filled)[0]
        assert areas_of_parts(found) == [found.sum()]
        assert not (found & ~filled).any()


def test_a_mask_of_one_segment_a_row_is_left_as_it_is() -> None:
    disc = np.zeros((40, 40), dtype=np.uint8)
    cv2.circle(disc, (20, 18), 11, 1, cv2.FILLED)
    runs = rle.runs_of(disc.astype(bool))
    assert largest_piece(runs, 40, 40) is runs
    assert second_part(runs, 40, 40) == 0.0


def test_rows_that_do_not_touch_are_no_piece() -> None:
    steps = np.zeros((4, 9), dtype=bool)
    steps[0, 0:3] = steps[1, 3:5] = True  # corner to corner
    steps[2, 6:8] = steps[3, 6:8] = True  # a pixel apart
    assert second_part(rle.runs_of(steps), 4, 9) == 4 / 5
    assert rle.area(largest_piece(rle.runs_of(steps), 4, 9)) == 5


def test_an_empty_mask_has_no_parts() -> None:
    empty = np.empty((0, 2), dtype=np.int64)
    assert second_part(empty, 9, 9) == 0.0
    assert len(largest_piece(empty, 9, 9)) == 0
