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
from hbseg.ml.frame import Frame
from hbseg.ml.native import Logits, Region, native_region
from hbseg.rle import DICE_EPSILON, Runs, area, patch_of

LEVELS: Final = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Probabilities that are tried: 0.05 to 0.95 in steps of 0.05."""
_LOGITS: Final = np.log(np.array(LEVELS) / (1 - np.array(LEVELS))).astype(np.float32)
MIDDLE: Final = 0.5


def dice_at_levels(
    logits_chw: Logits, truth: Sequence[Runs], height: int, width: int
) -> NDArray[np.float64]:
    """Return the Dice of each bone of one image at each level, float64 [29, levels].

    Args:
        logits_chw: float32 [29, side, side].
        truth: runs of the true masks at native size.
        height: rows of the picture, in pixels.
        width: columns of the picture, in pixels.
    """
    frame = Frame.of(height, width, logits_chw.shape[-1])
    pairs = zip(logits_chw, truth, strict=True)
    return np.stack([_bone_dice(plane, frame, runs) for plane, runs in pairs])


def best_thresholds(sums: NDArray[np.float64]) -> dict[str, float]:
    """Return the level of each bone that has the largest sum.

    Of equal ones it is the nearest to 0.5, and of two equally near ones the lower. `sums` is the
    sum of `dice_at_levels` over images, [29, levels].
    """
    by_distance = sorted(range(len(LEVELS)), key=lambda index: abs(LEVELS[index] - MIDDLE))
    best = [max(by_distance, key=lambda index: of_bone[index]) for of_bone in sums]
    return {bone: LEVELS[index] for bone, index in zip(BONES, best, strict=True)}


def _bone_dice(plane: Logits, frame: Frame, truth: Runs) -> NDArray[np.float64]:
    region = native_region(plane, frame, float(_LOGITS[0]))
    predicted = _above(region.logits)
    shared = _above(region.logits[_inside(region, truth, frame)])
    dice: NDArray[np.float64] = (2 * shared + DICE_EPSILON) / (
        predicted + area(truth) + DICE_EPSILON
    )
    return dice


def _above(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return how many of `logits` are above each level."""
    return np.array([np.count_nonzero(logits > level) for level in _LOGITS])


def _inside(region: Region, truth: Runs, frame: Frame) -> NDArray[np.bool_]:
    """Return which pixels of a region are in the truth, bool [h, w]."""
    height, width = region.logits.shape
    inside = np.zeros((height, width), dtype=bool)
    if not len(truth):
        return inside
    patch = patch_of(truth, frame.height, frame.width)
    down, right = patch.top - region.top, patch.left - region.left
    y0, x0 = max(down, 0), max(right, 0)
    part = patch.mask[y0 - down : max(height - down, 0), x0 - right : max(width - right, 0)]
    inside[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
    return inside
