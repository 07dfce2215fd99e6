"""From logits on a device to runs here: planes and masks stay there.

The same rule as `hbseg.ml.native`, with the same arithmetic in the same order, so the runs are
equal to the bit. What crosses the bus: the axes of a picture to the device; 29 boxes and the
edges of all runs back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hbseg import rle
from hbseg.ml.boxes import Box, runs_in_boxes, starts_of
from hbseg.ml.frame import Frame, Grid
from hbseg.ml.native import Axes, logit_levels


def device_runs(
    logits_chw: Tensor,
    place: Frame | Grid,
    *,
    threshold: float | Sequence[float] = 0.5,
) -> list[rle.Runs]:
    """Return the runs of each bone at the picture's own size.

    Args:
        logits_chw: float32 [29, h, w] on any device.
        place: of the picture on the logits; a frame: they show its whole square, at any size.
        threshold: probability above 0 and below 1, or one for each bone in class order.
    """
    number, height, width = logits_chw.shape
    axes = Axes.of(place, height, width)
    levels = torch.from_numpy(np.array(logit_levels(threshold, number))).to(logits_chw.device)
    boxes = [axes.box(*found) for found in _boxes_above(logits_chw, levels)]
    flat = _flat_masks(logits_chw, levels, _DeviceAxes(axes, logits_chw.device), boxes)
    return runs_in_boxes(_edges(flat), boxes, len(axes.columns.low))


def _boxes_above(logits_chw: Tensor, levels: Tensor) -> Iterator[Sequence[int]]:
    """Yield left, top, width and height of what is above its level in each plane; 0: nothing is."""
    above = logits_chw > levels[:, None, None]
    ranges = [_range(above.any(dim=2)), _range(above.any(dim=1))]
    for top, bottom, left, right in torch.cat(ranges, dim=1).tolist():
        yield left, top, right - left, bottom - top


def _range(found: Tensor) -> Tensor:
    """Return the start and the end of what is true in each row, int64 [n, 2]; nothing: 0, 0."""
    length = found.shape[1]
    first = found.int().argmax(dim=1)
    last = length - found.flip(1).int().argmax(dim=1)
    return torch.stack([first, last], dim=1) * found.any(dim=1)[:, None]


def _flat_masks(
    logits_chw: Tensor, levels: Tensor, axes: _DeviceAxes, boxes: Sequence[Box]
) -> Tensor:
    starts = starts_of(boxes).tolist()
    flat = torch.zeros(starts[-1] + 1, dtype=torch.bool, device=logits_chw.device)
    for plane, level, box, start in zip(logits_chw, levels, boxes, starts, strict=False):
        if box.pixels:
            mask = flat[start : start + box.pixels].view(box.height, -1)[:, 1:]
            mask.copy_(axes.interpolated(plane, box) > level)
    return flat


class _DeviceAxes:
    """Both axes of a picture on a device, where they are sent once."""

    def __init__(self, axes: Axes, device: torch.device) -> None:
        self._axes = axes
        self._rows, self._columns = (
            tuple(torch.from_numpy(v).to(device) for v in (axis.low, axis.high, axis.weight))
            for axis in (axes.rows, axes.columns)
        )

    def interpolated(self, plane: Tensor, box: Box) -> Tensor:
        """Return the values of the pixels in a box, float32 [height, width]."""
        low, high, weight = (v[box.left : box.left + box.width] for v in self._columns)
        rows, _ = self._axes.rows.cut(box.top, box.height)
        wide = _between(plane[rows], 1, low, high, weight)
        low, high, weight = (v[box.top : box.top + box.height] for v in self._rows)
        return _between(wide, 0, low - rows.start, high - rows.start, weight[:, None])


def _between(part: Tensor, dim: int, low: Tensor, high: Tensor, weight: Tensor) -> Tensor:
    # Operation by operation: torch.lerp rounds once where numpy rounds twice.
    below = part.index_select(dim, low)
    return (part.index_select(dim, high) - below) * weight + below


def _edges(flat: Tensor) -> NDArray[np.int64]:
    found: NDArray[np.int64] = (torch.nonzero(flat[1:] != flat[:-1])[:, 0] + 1).cpu().numpy()
    return found
