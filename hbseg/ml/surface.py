"""How far the outlines of two masks are apart, in pixels.

The outline of a mask is its pixels with a 4-neighbour outside of the mask; the picture's edge is
outside. Distances are Euclidean, between the centres of pixels, from each pixel of one outline to
the nearest pixel of the other. Both directions count:

- HD95 is the larger of the two directed 95th percentiles (linear interpolation between sorted
  distances), as MONAI's `compute_hausdorff_distance(percentile=95)` has it.
- Surface Dice is the share of the pixels of both outlines within a tolerance: Nikolov et al.,
  "Clinically applicable segmentation of head and neck anatomy for radiotherapy", JMIR 2021; counted
  in pixels, not in lengths, as MONAI's `compute_surface_dice` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.rle import Runs, patch_of

PERCENTILE: Final = 95.0
PAIRS_AT_ONCE: Final = 1 << 20
"""Distances that are held at a time."""
EXACT_SIDE: Final = 2048
"""Longest side of a box, in pixels, in which squared distances are exact in float32."""
_CROSS: Final = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))

Points = NDArray[np.float64]
"""[N, 2] of y, x in pixels."""


@dataclass(frozen=True)
class SurfaceScores:
    """How the outlines of two masks agree."""

    hd95_px: float
    surface_dice_1px: float
    """Share of both outlines, 0 to 1, at most 1 pixel from the other one."""
    surface_dice_2px: float


def surface_scores(first: Runs, second: Runs, height: int, width: int) -> SurfaceScores | None:
    """Return how the outlines of two masks agree; None where a mask is empty: it has no outline.

    Raises:
        ValueError: runs leave a picture of `height` x `width` pixels.
    """
    if not len(first) or not len(second):
        return None
    squared = squared_distances(outline(first, height, width), outline(second, height, width))
    return SurfaceScores(
        hd95_px=max(float(np.percentile(np.sqrt(of), PERCENTILE)) for of in squared),
        surface_dice_1px=_within(squared, 1),
        surface_dice_2px=_within(squared, 2),
    )


def outline(runs: Runs, height: int, width: int) -> Points:
    """Return the pixels of the outline of a mask that is not empty, [N, 2] of y, x."""
    patch = patch_of(runs, height, width)
    inside = cv2.erode(patch.mask, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    points: Points = np.argwhere(patch.mask != inside).astype(np.float64)
    points += np.array([patch.top, patch.left])
    return points


def squared_distances(first: Points, second: Points) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the squared distance from each point to the nearest of the other set, both ways.

    All pairs are compared: the square is one matrix product, exact because all are whole numbers.
    """
    low = np.minimum(first.min(axis=0), second.min(axis=0))
    high = np.maximum(first.max(axis=0), second.max(axis=0))
    middle = np.floor((low + high) / 2)
    kind = np.dtype("float32" if (high - low).max() < EXACT_SIDE else "float64")
    rows: NDArray[Any] = _factors(first - middle, -2.0).astype(kind)
    columns: NDArray[Any] = _factors(second - middle, 1.0)[:, [0, 1, 3, 2]].T.astype(kind)
    there, back = np.empty(len(first)), np.full(len(second), np.inf)
    step = max(1, PAIRS_AT_ONCE // len(second))
    for start in range(0, len(first), step):
        pairs = rows[start : start + step] @ columns
        there[start : start + step] = pairs.min(axis=1)
        np.minimum(back, pairs.min(axis=0), out=back)
    return there, back


def _factors(points: Points, scale: float) -> Points:
    """Return [N, 4] of scaled y and x, the squared length, and 1."""
    squares = np.square(points).sum(axis=1, keepdims=True)
    return np.hstack([scale * points, squares, np.ones((len(points), 1))])


def _within(squared: tuple[NDArray[Any], NDArray[Any]], tolerance: int) -> float:
    near = sum(int(np.count_nonzero(of <= tolerance**2)) for of in squared)
    return near / sum(len(of) for of in squared)
