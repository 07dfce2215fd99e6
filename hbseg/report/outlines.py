"""Outlines of masks as SVG path data.

Coordinates are pixels of the picture, those of a pixel's centre: (0, 0) is the first pixel. Steps
are relative and whole pixels, so a bone takes some hundred bytes.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.rle import Runs, elected, patch_of

_ONLY_FIRST: Final = (1, -1)
"""Weights of an election that a pixel wins by the first ballot alone."""


def outline(runs: Runs, height: int, width: int, tolerance: float) -> str:
    """Return the outlines of a mask, holes among them; an empty mask gives an empty text.

    A line is at most `tolerance` pixels away from the outline it stands for (Douglas-Peucker).

    Raises:
        ValueError: the runs leave a picture of this size.
    """
    if not len(runs):
        return ""
    patch = patch_of(runs, height, width)
    found, _ = cv2.findContours(
        patch.mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(patch.left, patch.top)
    )
    return "".join(_path(cv2.approxPolyDP(points, tolerance, True)) for points in found)


def only_first(first: Runs, second: Runs) -> Runs:
    """Return the runs of the pixels that `first` has and `second` has not."""
    return elected([first, second], _ONLY_FIRST, 1)


def _path(contour: NDArray[np.integer[Any] | np.floating[Any]]) -> str:
    """Return a closed line through the points of a contour, [N, 1, 2] of x, y."""
    points = contour.reshape(-1, 2).astype(int)
    (x, y), steps = points[0].tolist(), np.diff(points, axis=0).ravel().tolist()
    line = " ".join(map(str, steps)).replace(" -", "-")
    return f"M{x} {y}l{line}z" if line else f"M{x} {y}z"
