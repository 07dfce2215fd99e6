"""The connected parts of a bone's mask: how large the second one is, and the largest alone."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.rle import Runs, Segments, patch_of_segments, runs_in_box, segments

Mask = NDArray[np.uint8]
Places = NDArray[np.int64]


def second_part(runs: Runs, height: int, width: int) -> float:
    """Return the area of the second largest 8-connected part, as a share of the largest.

    0: the mask is in one part, or empty.

    Raises:
        ValueError: runs leave a picture of `height` x `width` pixels.
    """
    if not len(runs):
        return 0.0
    of = segments(runs, height, width)
    if _certainly_one_part(of):
        return 0.0
    mask = patch_of_segments(of).mask
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])
    return float(areas[-2] / areas[-1]) if len(areas) > 1 else 0.0


def largest_piece(runs: Runs, height: int, width: int) -> Runs:
    """Return the runs of the largest 8-connected part with its holes filled.

    Raises:
        ValueError: runs leave a picture of `height` x `width` pixels.
    """
    if not len(runs):
        return runs
    of = segments(runs, height, width)
    if _certainly_one_piece(of):
        return runs
    patch = patch_of_segments(of)
    return runs_in_box(_largest_filled(patch.mask), patch.left, patch.top, width)


def _certainly_one_part(of: Segments) -> bool:
    """Return whether all segments but one touch one in the row above, or all but one below."""
    stride = int(of.right.max()) + 3  # so that no row's end touches the next one's start
    starts, ends = of.row * stride + of.left, of.row * stride + of.right
    return any(
        np.count_nonzero(~_touching(starts, ends, shift)) == 1 for shift in (-stride, stride)
    )


def _certainly_one_piece(of: Segments) -> bool:
    """Return whether each row has one segment, which touches the one in the row above."""
    next_row = np.diff(of.row) == 1
    touches = (of.left[1:] <= of.right[:-1]) & (of.left[:-1] <= of.right[1:])
    return bool((next_row & touches).all())


def _touching(starts: Places, ends: Places, shift: int) -> NDArray[np.bool_]:
    """Return which segments touch another one, corners included, if they are moved by `shift`."""
    first = np.searchsorted(ends, starts + shift, side="left")
    behind = np.searchsorted(starts, ends + shift, side="right")
    return behind > first


def _largest_filled(mask: Mask) -> NDArray[np.bool_]:
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    left, top, part = max(map(_filled, outlines), key=lambda placed: int(placed[2].sum()))
    filled = np.zeros(mask.shape, dtype=np.bool_)
    filled[top : top + part.shape[0], left : left + part.shape[1]] = part
    return filled


def _filled(outline: NDArray[Any]) -> tuple[int, int, NDArray[np.bool_]]:
    """Return the place and the mask of all that an outer contour encloses."""
    left, top, width, height = cv2.boundingRect(outline)
    part = np.zeros((height, width), dtype=np.uint8)
    cv2.drawContours(part, [outline], 0, 1, cv2.FILLED, offset=(-left, -top))
    return left, top, part.astype(bool)
