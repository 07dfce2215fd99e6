"""Masks of several bones in their boxes, as one flat array that is searched for runs once.

A row of a box stands after one pixel that is not set, and so does the end of the array. So no run
reaches into the next row, and each set pixel has an edge of its run on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hbseg.rle import Runs


@dataclass(frozen=True)
class Box:
    """A box in a picture, in pixels; it may be empty."""

    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Pixels of the flat array: its own, and one for each row."""
        return self.height * (self.width + 1)


EMPTY = Box(0, 0, 0, 0)


def starts_of(boxes: Sequence[Box]) -> NDArray[np.int64]:
    """Return where each box starts in the flat array, and where the last one ends: int64 [n + 1].

    The array ends one pixel later.
    """
    return np.cumsum([0, *(box.pixels for box in boxes)])


def runs_in_boxes(edges: NDArray[np.int64], boxes: Sequence[Box], width: int) -> list[Runs]:
    """Return the runs of each box's mask in a picture of `width`.

    Args:
        edges: positions in the flat array whose pixel differs from the one before, sorted.
        boxes: the boxes in the order of the array.
        width: of the picture, in pixels.
    """
    starts, ends = edges[0::2], edges[1::2]
    of_box = starts_of(boxes)
    first = starts.searchsorted(of_box)  # each box's first run
    counts = np.diff(first)
    rows_of = np.repeat([box.width + 1 for box in boxes], counts)
    row, column = np.divmod(starts - np.repeat(of_box[:-1], counts), rows_of)
    row += np.repeat([box.top for box in boxes], counts)
    column += np.repeat([box.left - 1 for box in boxes], counts)
    runs = np.stack([row * width + column, ends - starts], axis=1)
    return [_joined(runs[start:stop]) for start, stop in pairwise(first)]


def _joined(runs: Runs) -> Runs:
    """Return runs in which those that touch, from the end of a row into the next one, are one."""
    ends = runs[:, 0] + runs[:, 1]
    apart = runs[1:, 0] != ends[:-1]
    if apart.all():
        return runs
    starts = runs[np.concatenate(([True], apart)), 0]
    return np.stack([starts, ends[np.concatenate((apart, [True]))] - starts], axis=1)
