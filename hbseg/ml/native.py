"""From logits at the network's size to runs at the picture's own size.

The rule: logits are interpolated bilinearly with shared pixel centres (as
`torch.nn.functional.interpolate(align_corners=False)` does, edges repeated), and a pixel belongs
to the bone where the result is above the threshold's logit. An interpolated value lies between
its four neighbours, so only the box around the bone's own logits need be looked at: the full-size
planes of 29 bones (480 MB of floats at 2048) are never made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg import rle
from hbseg.ml.frame import Frame

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """The logits of one bone in a box of the picture, at native size."""

    logits: Logits
    """float32 [h, w]; outside of the box no pixel is above the level that was asked for."""
    top: int
    left: int


def native_runs(
    logits_chw: Logits,
    frame: Frame,
    *,
    threshold: float = 0.5,
    one_piece: bool = False,
) -> list[rle.Runs]:
    """Return the runs of each bone in the picture of `frame`.

    Args:
        logits_chw: float32 [29, side, side]; the side may be any part of the network's input.
        frame: place of the picture in the network's input.
        threshold: probability, above 0 and below 1.
        one_piece: keep only the largest 8-connected part of each bone, and fill its holes.
    """
    level = math.log(threshold / (1 - threshold))
    return [_bone_runs(plane, frame, level, one_piece) for plane in logits_chw]


def native_region(plane: Logits, frame: Frame, level: float) -> Region:
    """Return the interpolated logits of one bone wherever they may be above a level.

    Args:
        plane: float32 [side, side]; the side may be any part of the network's input.
        frame: place of the picture in the network's input.
        level: a logit.
    """
    frame = Frame.of(frame.height, frame.width, plane.shape[-1])
    above = plane > level
    rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    if not rows.size:
        return Region(np.empty((0, 0), dtype=np.float32), 0, 0)
    ys = _native_range(rows[0], rows[-1], frame, frame.top, frame.height)
    xs = _native_range(columns[0], columns[-1], frame, frame.left, frame.width)
    if not ys.size or not xs.size:  # only padding is above it
        return Region(np.empty((0, 0), dtype=np.float32), 0, 0)
    logits = _interpolated(plane, ys + frame.top, xs + frame.left, frame)
    return Region(logits, int(ys[0]), int(xs[0]))


def _bone_runs(plane: Logits, frame: Frame, level: float, one_piece: bool) -> rle.Runs:
    region = native_region(plane, frame, level)
    mask = region.logits > level
    if not mask.size:
        return np.empty((0, 2), dtype=np.int64)
    if one_piece:
        mask = _largest_filled(mask)
    return rle.runs_in_box(mask, region.left, region.top, frame.width)


def _native_range(first: int, last: int, frame: Frame, pad: int, length: int) -> NDArray[np.int64]:
    """Return the picture's rows (or columns) that the network's `first` to `last` reach."""
    scale = frame.side / frame.size
    start = math.floor((first - 0.5) * scale - 0.5) - pad
    stop = math.ceil((last + 1.5) * scale - 0.5) - pad
    return np.arange(max(start, 0), min(stop + 1, length))


def _interpolated(
    plane: Logits, ys: NDArray[np.int64], xs: NDArray[np.int64], frame: Frame
) -> Logits:
    low_y, high_y, weight_y = _neighbours(ys, frame)
    low_x, high_x, weight_x = _neighbours(xs, frame)
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
    positions: NDArray[np.int64], frame: Frame
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    source = np.clip((positions + 0.5) * (frame.size / frame.side) - 0.5, 0, frame.size - 1)
    low = np.floor(source).astype(np.int64)
    high = np.minimum(low + 1, frame.size - 1)
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
