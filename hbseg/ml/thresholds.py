"""The threshold of each bone at which its mean Dice over images is highest.

For each image and bone, the native-size logits (the rule of `hbseg.ml.native`) above each level of
a fixed grid are counted, in all and inside of the truth. From these cumulative histograms follows
the exact Dice at each level, so one pass is enough and no image is kept. `one_piece` is left out:
the masks are those of the threshold alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import BONES
from hbseg.ml.frame import Grid
from hbseg.ml.native import Logits, Region, logit_levels, native_region
from hbseg.ml.views import PictureLogits
from hbseg.rle import DICE_EPSILON, Runs, area, patch_of

LEVELS: Final = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Probabilities that are tried: 0.05 to 0.95 in steps of 0.05."""
_LOGITS: Final = logit_levels(LEVELS, len(LEVELS))
MIDDLE: Final = 0.5


def dice_at_levels(logits: PictureLogits, truth: Sequence[Runs]) -> NDArray[np.float64]:
    """Return the Dice of each bone of one image at each level, float64 [29, levels].

    `truth` are the runs of the true masks at native size.
    """
    planes = logits.logits_chw
    planes = planes if isinstance(planes, np.ndarray) else planes.cpu().numpy()
    return np.stack([_bone_dice(*pair, logits.grid) for pair in zip(planes, truth, strict=True)])


def best_thresholds(sums: NDArray[np.float64]) -> dict[str, float]:
    """Return the level of each bone that has the largest sum.

    Of equal ones it is the nearest to 0.5, and of two equally near ones the lower. `sums` is the
    sum of `dice_at_levels` over images, [29, levels].
    """
    by_distance = sorted(range(len(LEVELS)), key=lambda index: abs(LEVELS[index] - MIDDLE))
    best = [max(by_distance, key=lambda index: of_bone[index]) for of_bone in sums]
    return {bone: LEVELS[index] for bone, index in zip(BONES, best, strict=True)}


def _bone_dice(plane: Logits, truth: Runs, grid: Grid) -> NDArray[np.float64]:
    region = native_region(plane, grid, _LOGITS[0])
    predicted = _above(region.logits)
    shared = _above(region.logits[_inside(region, truth, grid)])
    dice: NDArray[np.float64] = (2 * shared + DICE_EPSILON) / (
        predicted + area(truth) + DICE_EPSILON
    )
    return dice


def _above(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return how many of `logits` are above each level."""
    return np.array([np.count_nonzero(logits > level) for level in _LOGITS])


def _inside(region: Region, truth: Runs, grid: Grid) -> NDArray[np.bool_]:
    """Return which pixels of a region are in the truth, bool [h, w]."""
    height, width = region.logits.shape
    inside = np.zeros((height, width), dtype=bool)
    if not len(truth):
        return inside
    patch = patch_of(truth, grid.height, grid.width)
    down, right = patch.top - region.top, patch.left - region.left
    y0, x0 = max(down, 0), max(right, 0)
    part = patch.mask[y0 - down : max(height - down, 0), x0 - right : max(width - right, 0)]
    inside[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
    return inside
