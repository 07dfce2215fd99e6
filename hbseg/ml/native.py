"""From logits at the network's size to runs at the picture's own size.

The rule: logits are interpolated bilinearly with shared pixel centres (as
`torch.nn.functional.interpolate(align_corners=False)` does, edges repeated), and a pixel belongs
to the bone where the result is above the threshold's logit. An interpolated value lies between
its four neighbours, so only the box around the bone's own logits need be looked at: the full-size
planes of 29 bones (480 MB of floats at 2048) are never made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg import rle
from hbseg.ml.frame import Frame, Grid

Logits = NDArray[np.float32]


def native_runs(
    logits_chw: Logits,
    place: Frame | Grid,
    *,
    threshold: float | Sequence[float] = 0.5,
    one_piece: bool = False,
) -> list[rle.Runs]:
    """Return the runs of each bone at the picture's own size.

    Args:
        logits_chw: float32 [29, h, w].
        place: of the picture on the logits; a frame: they show its whole square, at any size.
        threshold: probability above 0 and below 1, or one for each bone in class order.
        one_piece: keep only the largest 8-connected part of each bone, and fill its holes.
    """
    grid = place if isinstance(place, Grid) else place.grid(logits_chw.shape[-1])
    levels = logit_levels(threshold, len(logits_chw))
    return [
        _bone_runs(plane, grid, level, one_piece)
        for plane, level in zip(logits_chw, levels, strict=True)
    ]


def logit_levels(threshold: float | Sequence[float], number: int) -> list[float]:
    """Return the logit of each of `number` bones' threshold; a pixel of the bone is above it."""
    values = [threshold] * number if isinstance(threshold, float) else threshold
    return [math.log(value / (1 - value)) for value in values]


def _bone_runs(plane: Logits, grid: Grid, level: float, one_piece: bool) -> rle.Runs:
    above = plane > level
    rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    if not rows.size:
        return np.empty((0, 2), dtype=np.int64)
    ys = _native_range(rows[0], rows[-1], grid.scale, grid.top, grid.height)
    xs = _native_range(columns[0], columns[-1], grid.scale, grid.left, grid.width)
    mask = _interpolated(plane, ys + grid.top, xs + grid.left, grid.scale) > level
    if one_piece and mask.size:
        mask = _largest_filled(mask)
    return (
        rle.runs_in_box(mask, int(xs[0]), int(ys[0]), grid.width)
        if mask.size
        else (np.empty((0, 2), dtype=np.int64))
    )


def _native_range(first: int, last: int, scale: float, pad: int, length: int) -> NDArray[np.int64]:
    """Return the picture's rows (or columns) that the plane's `first` to `last` reach."""
    start = math.floor((first - 0.5) / scale - 0.5) - pad
    stop = math.ceil((last + 1.5) / scale - 0.5) - pad
    return np.arange(max(start, 0), min(stop + 1, length))


def _interpolated(
    plane: Logits, ys: NDArray[np.int64], xs: NDArray[np.int64], scale: float
) -> Logits:
    if not ys.size or not xs.size:
        return np.empty((len(ys), len(xs)), dtype=np.float32)
    low_y, high_y, weight_y = _neighbours(ys, scale, plane.shape[0])
    low_x, high_x, weight_x = _neighbours(xs, scale, plane.shape[1])
    part = plane[:, low_x[0] : high_x[-1] + 1]
    lines = part[low_y] + weight_y[:, None] * (part[high_y] - part[low_y])
    low, high = low_x - low_x[0], high_x - low_x[0]
    left = np.take(lines, low, axis=1)
    right = np.take(lines, high, axis=1)
    right -= left
    right *= weight_x[None, :]
    right += left
    return np.asarray(right, dtype=np.float32)


def _neighbours(
    positions: NDArray[np.int64], scale: float, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    source = np.clip((positions + 0.5) * scale - 0.5, 0, size - 1)
    low = np.floor(source).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    return low, high, (source - low).astype(np.float32)


def _largest_filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    parts = [_filled(outline) for outline in outlines]
    if not parts:
        return mask
    left, top, part = max(parts, key=lambda placed: int(placed[2].sum()))
    filled = np.zeros_like(mask)
    filled[top : top + part.shape[0], left : left + part.shape[1]] = part
    return filled


def _filled(outline: NDArray[Any]) -> tuple[int, int, NDArray[np.bool_]]:
    """Return the place and the mask of all that an outer contour encloses."""
    left, top, width, height = cv2.boundingRect(outline)
    part = np.zeros((height, width), dtype=np.uint8)
    cv2.drawContours(part, [outline], 0, 1, cv2.FILLED, offset=(-left, -top))
    return left, top, part.astype(bool)
