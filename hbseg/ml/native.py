"""From logits at the network's size to runs at the picture's own size.

The rule: logits are interpolated bilinearly with shared pixel centres (as
`torch.nn.functional.interpolate(align_corners=False)` does, edges repeated), and a pixel belongs
to the bone where the result is above the threshold's logit. An interpolated value lies between
its four neighbours, so only the box around the bone's own logits need be looked at: the full-size
planes of 29 bones (480 MB of floats at 2048) are never made. Columns come first, while rows are
few.

`hbseg.ml.device_runs` does the same on a device, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg import rle
from hbseg.ml.boxes import EMPTY, Box, runs_in_boxes, starts_of
from hbseg.ml.frame import Frame, Grid

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Axis:
    """The rows (or columns) of a picture, and the two of the plane between which each is.

    Row y has the value `plane[low[y]] + weight[y] * (plane[high[y]] - plane[low[y]])`.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight: NDArray[np.float32]
    """0 to below 1."""

    @classmethod
    def of(cls, length: int, pad: int, scale: float, size: int) -> Self:
        """Return the axis of `length` native pixels after `pad`, on `size` pixels of the plane."""
        positions = np.arange(pad, pad + length)
        source = np.clip((positions + 0.5) * scale - 0.5, 0, size - 1)
        low = source.astype(np.int64)
        return cls(low, np.minimum(low + 1, size - 1), (source - low).astype(np.float32))

    def reach(self, first: int, last: int) -> tuple[int, int]:
        """Return the range of native pixels that the plane's `first` to `last` have a part in."""
        return int(self.high.searchsorted(first)), int(self.low.searchsorted(last, side="right"))

    def cut(self, start: int, length: int) -> tuple[slice, Axis]:
        """Return what native pixels need of the plane: a part of it, and their axis on that part.

        They are `length` from `start` on, at least one.
        """
        own = slice(start, start + length)
        low, high = self.low[own], self.high[own]
        part = slice(int(low[0]), int(high[-1]) + 1)
        return part, Axis(low - part.start, high - part.start, self.weight[own])


@dataclass(frozen=True)
class Axes:
    """Both axes of a picture on its logits."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, place: Frame | Grid, height: int, width: int) -> Self:
        """Return the axes on planes of `height` x `width`; a frame: they show its whole square."""
        grid = place if isinstance(place, Grid) else place.grid(width)
        return cls(
            Axis.of(grid.height, grid.top, grid.scale, height),
            Axis.of(grid.width, grid.left, grid.scale, width),
        )

    def box(self, left: int, top: int, width: int, height: int) -> Box:
        """Return the picture's box that a box of the plane has a part in."""
        y, y_end = self.rows.reach(top, top + height - 1)
        x, x_end = self.columns.reach(left, left + width - 1)
        return Box(y, x, y_end - y, x_end - x) if width and y < y_end and x < x_end else EMPTY


@dataclass(frozen=True)
class Region:
    """The logits of one bone in a box of the picture, at native size."""

    logits: Logits
    """float32 [h, w]; outside of the box no pixel is above the level that was asked for."""
    top: int
    left: int


def native_region(plane: Logits, place: Frame | Grid, level: np.float32) -> Region:
    """Return the interpolated logits of one bone wherever they may be above a level, a logit.

    `plane` is float32 [h, w], `place` as for `native_runs`.
    """
    axes = Axes.of(place, *plane.shape)
    box = axes.box(*next(_boxes_above(plane[None], [level])))
    if not box.pixels:
        return Region(np.empty((0, 0), dtype=np.float32), 0, 0)
    return Region(_interpolated(plane, axes, box), box.top, box.left)


def native_runs(
    logits_chw: Logits,
    place: Frame | Grid,
    *,
    threshold: float | Sequence[float] = 0.5,
) -> list[rle.Runs]:
    """Return the runs of each bone at the picture's own size.

    Args:
        logits_chw: float32 [29, h, w].
        place: of the picture on the logits; a frame: they show its whole square, at any size.
        threshold: probability above 0 and below 1, or one for each bone in class order.
    """
    number, height, width = logits_chw.shape
    axes = Axes.of(place, height, width)
    levels = logit_levels(threshold, number)
    boxes = [axes.box(*found) for found in _boxes_above(logits_chw, levels)]
    starts = starts_of(boxes)
    flat = np.zeros(starts[-1] + 1, dtype=np.bool_)
    for plane, level, box, start in zip(logits_chw, levels, boxes, starts, strict=False):
        if box.pixels:
            mask = flat[start : start + box.pixels].reshape(box.height, -1)[:, 1:]
            np.greater(_interpolated(plane, axes, box), level, out=mask)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return runs_in_boxes(edges, boxes, len(axes.columns.low))


def logit_levels(threshold: float | Sequence[float], number: int) -> list[np.float32]:
    """Return the logit of each of `number` bones' threshold; a pixel of the bone is above it."""
    values = threshold if isinstance(threshold, Sequence) else [threshold] * number
    return [np.float32(math.log(value / (1 - value))) for value in values]


def _boxes_above(logits_chw: Logits, levels: Sequence[np.float32]) -> Iterator[Sequence[int]]:
    """Yield left, top, width and height of what is above its level in each plane; 0: nothing is."""
    above = np.empty(logits_chw.shape[1:], dtype=np.uint8)  # one for all: new memory costs as much
    for plane, level in zip(logits_chw, levels, strict=True):
        np.greater(plane, level, out=above.view(np.bool_))
        yield cv2.boundingRect(above)


def _interpolated(plane: Logits, axes: Axes, box: Box) -> Logits:
    rows, row = axes.rows.cut(box.top, box.height)
    columns, column = axes.columns.cut(box.left, box.width)
    part = np.ascontiguousarray(plane[rows, columns].T)  # whole rows are taken faster
    wide = np.ascontiguousarray(_between(part, column).T)
    return _between(wide, row)


def _between(part: Logits, axis: Axis) -> Logits:
    """Return the rows of an axis on a part of a plane."""
    low, high = part.take(axis.low, axis=0), part.take(axis.high, axis=0)
    high -= low
    high *= axis.weight[:, None]
    high += low
    return high
