from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hbseg.ml.surface import SurfaceScores, outline, squared_distances, surface_scores
from hbseg.rle import runs_of

Mask = NDArray[np.bool_]


def random_mask(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Some filled polygons and some noise, reaching the picture's edge at times."""
    mask = np.zeros((height, width), dtype=np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        points = rng.integers(-5, [width + 5, height + 5], (int(rng.integers(3, 7)), 2))
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    mask[rng.random((height, width)) < 0.002] ^= 1
    return mask.astype(bool)


def plain_outline(mask: Mask) -> list[tuple[int, int]]:
    def outside(y: int, x: int) -> bool:
        inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
        return not inside or not mask[y, x]

    return [
        (y, x)
        for y, x in np.argwhere(mask).tolist()
        if outside(y - 1, x) or outside(y + 1, x) or outside(y, x - 1) or outside(y, x + 1)
    ]


def plain_scores(first: Mask, second: Mask) -> SurfaceScores:
    """The definition, point by point."""
    a, b = plain_outline(first), plain_outline(second)

    def directed(of: list[tuple[int, int]], to: list[tuple[int, int]]) -> list[float]:
        places = np.array(to)
        return [float(np.hypot(*(places - point).T).min()) for point in of]

    there, back = directed(a, b), directed(b, a)
    both = np.array(there + back)
    return SurfaceScores(
        hd95_px=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        surface_dice_1px=float((both <= 1).mean()),
        surface_dice_2px=float((both <= 2).mean()),
    )


@pytest.mark.parametrize("seed", range(12))
def test_scores_are_those_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 90, 2).tolist()
    first, second = (random_mask(rng, height, width) for _ in range(2))
    expected = plain_scores(first, second)
    found = surface_scores(runs_of(first), runs_of(second), height, width)
    assert found is not None
    assert found.hd95_px == pytest.approx(expected.hd95_px, abs=1e-9)
    assert found.surface_dice_1px == expected.surface_dice_1px
    assert found.surface_dice_2px == expected.surface_dice_2px


def test_the_larger_direction_counts() -> None:
    first = np.zeros((60, 60), dtype=bool)
    first[10:20, 10:20] = True
    second = first.copy()
    second[10:50, 14] = True  # a spike: far from the square, which is near to all of it
    runs = runs_of(first), runs_of(second)
    there, back = (surface_scores(*pair, 60, 60) for pair in (runs, runs[::-1]))
    assert there == back
    assert there is not None
    assert there.hd95_px > 20


def test_equal_masks_have_no_distance() -> None:
    mask = random_mask(np.random.default_rng(5), 50, 40)
    assert surface_scores(runs_of(mask), runs_of(mask), 50, 40) == SurfaceScores(0.0, 1.0, 1.0)


def test_an_empty_mask_has_no_outline_and_no_scores() -> None:
    full, empty = runs_of(np.ones((9, 9), dtype=bool)), runs_of(np.zeros((9, 9), dtype=bool))
    assert surface_scores(full, empty, 9, 9) is None
    assert surface_scores(empty, full, 9, 9) is None
    assert surface_scores(empty, empty, 9, 9) is None


def test_the_picture_s_edge_is_part_of_an_outline() -> None:
    full = runs_of(np.ones((5, 4), dtype=bool))
    assert len(outline(full, 5, 4)) == 2 * 5 + 2 * 4 - 4


def test_runs_that_leave_the_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="runs end at pixel 100"):
        surface_scores(np.array([[90, 10]]), np.array([[0, 1]]), 9, 9)


@pytest.mark.parametrize("side", [2047, 2048, 9001])
def test_distances_across_a_large_picture_are_exact(side: int) -> None:
    first = np.array([[0.0, 0.0], [side, side - 3.0]])
    second = np.array([[side, side], [side - 1.0, 1.0]])
    there, back = squared_distances(first, second)
    assert there.tolist() == [(side - 1) ** 2 + 1, 9.0]
    assert back.tolist() == [9.0, 1 + (side - 4) ** 2]
