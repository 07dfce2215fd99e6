"""Run-length codes of masks: row-major, 1-based `start length` pairs.

A code is what a submission holds; runs are the same as numbers, [N, 2] int64 of 0-based start and
length, sorted, with a gap between neighbours. Areas, overlaps and Dice are computed on runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbseg.codes import CODE, check_code

Runs = NDArray[np.int64]


@dataclass(frozen=True)
class Patch:
    """A mask in its box: `mask` uint8 [h, w] of 0 and 1, and the box's corner in pixels."""

    mask: NDArray[np.uint8]
    top: int
    left: int


@dataclass(frozen=True)
class Segments:
    """The pixels of a mask row by row: runs that are cut at the ends of rows, sorted."""

    row: NDArray[np.int64]
    """[N] row of the picture."""
    left: NDArray[np.int64]
    """[N] first column."""
    right: NDArray[np.int64]
    """[N] column behind the last one."""


DICE_EPSILON = 1e-4
"""Added above and below in Dice, so that two empty masks agree (source: the task's metric)."""


def encode(mask: NDArray[np.bool_]) -> str:
    """Return the code of `mask`, bool [H, W]; an empty mask gives an empty text."""
    return to_text(runs_of(mask))


def decode(rle: str, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Return the mask of a code, bool of `shape` (H, W).

    Raises:
        ValueError: the code is not one: odd or unreadable numbers, runs that overlap, touch out
            of order, or leave the picture.
    """
    height, width = shape
    mask = np.zeros(height * width, dtype=bool)
    for start, length in from_text(rle, height * width):
        mask[start : start + length] = True
    return mask.reshape(height, width)


def runs_of(mask: NDArray[np.bool_]) -> Runs:
    """Return the runs of `mask`, bool [H, W]."""
    flat = np.ascontiguousarray(mask, dtype=bool).ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        edges = np.concatenate(([0], edges))
    if flat.size and flat[-1]:
        edges = np.concatenate((edges, [flat.size]))
    starts, ends = edges[0::2], edges[1::2]
    return np.stack([starts, ends - starts], axis=1).astype(np.int64)


def runs_in_box(mask: NDArray[np.bool_], left: int, top: int, width: int) -> Runs:
    """Return the runs, in a picture of `width`, of a mask that is a box at (left, top) of it.

    Runs that go on from the end of one row into the next are one run.
    """
    rows, columns = mask.shape
    guarded = np.zeros((rows, columns + 1), dtype=bool)
    guarded[:, :-1] = mask
    runs = runs_of(guarded)
    row, column = np.divmod(runs[:, 0], columns + 1)
    starts = (row + top) * width + column + left
    return _joined(starts, runs[:, 1])


def patch_of(runs: Runs, height: int, width: int) -> Patch:
    """Return the mask of `runs`, at least one, in its box.

    Raises:
        ValueError: the runs leave a picture of this size.
    """
    return patch_of_segments(segments(runs, height, width))


def patch_of_segments(of: Segments) -> Patch:
    """Return the mask of segments, at least one, in its box."""
    top, edge = int(of.row[0]), int(of.left.min())
    steps = np.zeros((int(of.row[-1]) - top + 1, int(of.right.max()) - edge + 1), dtype=np.int8)
    steps[of.row - top, of.left - edge] += 1
    steps[of.row - top, of.right - edge] -= 1
    mask = np.cumsum(steps, axis=1, dtype=np.int8)[:, :-1].astype(np.uint8)
    return Patch(mask, top, edge)


def segments(runs: Runs, height: int, width: int) -> Segments:
    """Return `runs`, at least one, row by row.

    Raises:
        ValueError: the runs leave a picture of this size.
    """
    starts, ends = runs[:, 0], runs[:, 0] + runs[:, 1]
    if starts[0] < 0 or ends[-1] > height * width:
        raise ValueError(f"runs end at pixel {ends[-1]}, the picture has {height} x {width}")
    first, last = starts // width, (ends - 1) // width
    rows_of_run = last - first + 1  # a run may continue in the next row
    index = np.repeat(np.arange(len(runs)), rows_of_run)
    before = np.cumsum(rows_of_run) - rows_of_run
    row = first[index] + np.arange(len(index)) - before[index]
    left = np.maximum(starts[index] - row * width, 0)
    right = np.minimum(ends[index] - row * width, width)
    return Segments(row, left, right)


def to_text(runs: Runs) -> str:
    """Return the code of runs."""
    return " ".join(map(str, np.add(runs, (1, 0)).ravel().tolist()))


def from_text(rle: str, size: int) -> Runs:
    """Return the runs of a code for a picture of `size` pixels.

    Raises:
        ValueError: see `decode`.
    """
    if not rle:
        return np.empty((0, 2), dtype=np.int64)
    if CODE.fullmatch(rle) is None:
        check_code(rle, size)
    runs = np.fromstring(rle, dtype=np.int64, sep=" ").reshape(-1, 2)
    runs[:, 0] -= 1
    ends = runs.sum(axis=1)
    if (runs[1:, 0] < ends[:-1]).any() or ends[-1] > size:
        check_code(rle, size)  # raises with the reason
    return runs


def area(runs: Runs) -> int:
    """Return the number of pixels of runs."""
    return int(runs[:, 1].sum())


def overlap(first: Runs, second: Runs) -> int:
    """Return the number of pixels that two masks share, in time linear in their runs."""
    if not len(first) or not len(second):
        return 0
    return int(_covered_before(second, first[:, 0] + first[:, 1]).sum()) - int(
        _covered_before(second, first[:, 0]).sum()
    )


def dice(first: Runs, second: Runs) -> float:
    """Return 2 |A and B| / (|A| + |B|) with the task's epsilon; two empty masks give 1."""
    shared = 2 * overlap(first, second)
    return (shared + DICE_EPSILON) / (area(first) + area(second) + DICE_EPSILON)


def elected(ballots: Sequence[Runs], weights: Sequence[int], needed: int) -> Runs:
    """Return the runs of the pixels whose ballots have weights of at least `needed` together.

    A sweep over the sorted starts and ends of all runs; no mask is made. `needed` is at least 1.
    """
    starts = np.concatenate([runs[:, 0] for runs in ballots])
    ends = starts + np.concatenate([runs[:, 1] for runs in ballots])
    weight = np.repeat(np.array(weights, dtype=np.int64), [len(runs) for runs in ballots])
    positions = np.concatenate((starts, ends))
    order = np.argsort(positions, kind="stable")
    positions = positions[order]
    levels = np.cumsum(np.concatenate((weight, -weight))[order])
    last = np.append(positions[1:] != positions[:-1], True)[: len(positions)]
    positions, inside = positions[last], levels[last] >= needed
    changes = positions[inside != np.concatenate(([False], inside[:-1]))[: len(inside)]]
    return np.stack([changes[::2], changes[1::2] - changes[::2]], axis=1)


def _joined(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Runs:
    """Return runs in which neighbours that touch are one."""
    if not starts.size:
        return np.empty((0, 2), dtype=np.int64)
    ends = starts + lengths
    first = np.concatenate(([True], starts[1:] != ends[:-1]))
    last = np.concatenate((first[1:], [True]))
    return np.stack([starts[first], ends[last] - starts[first]], axis=1)


def _covered_before(runs: Runs, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many pixels of `runs` lie before each of `positions`."""
    total = np.concatenate(([0], np.cumsum(runs[:, 1])))
    index = np.searchsorted(runs[:, 0], positions, side="right")
    last = np.maximum(index - 1, 0)
    beyond = np.clip(runs[last, 0] + runs[last, 1] - positions, 0, None)
    return np.where(index > 0, total[index] - beyond, 0)
