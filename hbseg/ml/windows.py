"""Windows of native pixels over a picture, and their logits blended into those of the picture.

A network that was trained on windows sees pixels as they are, a part of the hand at a time. The
windows overlap by half or more. Where several see a pixel, its logits are their mean, with the
weights of a Gaussian around each window's centre: a network knows least about what is at its edge
(source: nnU-Net, Isensee et al. 2021, with the same deviation of an eighth of the side).

All places are multiples of `GRID`: so the logits of all windows are on one grid, whatever the
output stride, and share pixel centres with the picture.

The blended logits take 29 x 4 bytes for each pixel of the picture, 464 MiB at 2048 x 2048 (116 MiB
where the network has an output stride of 2). They are allocated once for all pictures of an engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import NUM_BONES
from hbseg.config.specs import ViewName
from hbseg.errors import InvalidInput
from hbseg.ml.frame import Grid
from hbseg.ml.views import Look, Picture, PictureLogits, Planes, whole_picture

MAX_LOGITS: Final = 2 * 2**30
"""Most bytes of the logits of one picture, at an output stride of 1: about 4300 x 4300 pixels."""
GRID: Final = 4
"""Largest output stride of a network: what is a multiple of it has a place in any logits."""


@dataclass(frozen=True)
class Place:
    """Upper left corner of a window in the padded picture, in pixels."""

    top: int
    left: int


@dataclass(frozen=True)
class Windows:
    """Windows over a picture of height x width pixels, which is padded where it is too small."""

    height: int
    width: int
    size: int
    """Side of a window, in pixels; a multiple of twice `GRID`."""

    steps: ClassVar = (1, 1)
    """Smallest numbers of native and network pixels of equal length: nothing is scaled."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the padded picture: of a window at least, and multiples of `GRID`."""
        rows, columns = (
            -(-max(length, self.size) // GRID) * GRID for length in (self.height, self.width)
        )
        return rows, columns

    @property
    def top(self) -> int:
        """Rows of padding above the picture."""
        return (self.shape[0] - self.height) // 2

    @property
    def left(self) -> int:
        """Columns of padding left of the picture."""
        return (self.shape[1] - self.width) // 2

    @cached_property
    def tops(self) -> list[int]:
        """First row of each row of windows."""
        return _starts(self.shape[0], self.size)

    @cached_property
    def lefts(self) -> list[int]:
        """First column of each column of windows."""
        return _starts(self.shape[1], self.size)

    def places(self) -> list[Place]:
        """Return the place of each window, row by row."""
        return [Place(top, left) for top in self.tops for left in self.lefts]

    def grid(self, stride: int) -> Grid:
        """Return the picture's place on the logits of the padded picture."""
        return Grid(self.height, self.width, 1 / stride, self.top, self.left)

    def to_network(self, gray: Picture) -> Picture:
        """Return the padded picture, uint8 of `shape`; padding repeats the edge, as a frame's."""
        rows, columns = self.shape
        below, right = rows - self.height - self.top, columns - self.width - self.left
        padded = cv2.copyMakeBorder(gray, self.top, below, self.left, right, cv2.BORDER_REPLICATE)
        return np.asarray(padded, dtype=np.uint8)

    def cut(self, padded: Picture, place: Place) -> Picture:
        """Return a window of the padded picture, uint8 [size, size]; it is no copy."""
        return padded[place.top : place.top + self.size, place.left : place.left + self.size]


def gaussian(size: int) -> NDArray[np.float32]:
    """Return weights along one axis of a window's logits, float32 [size]; none is 0.

    The weight of a pixel is the product of its row's and its column's.
    """
    distance = np.arange(size) - (size - 1) / 2
    return np.asarray(np.exp(-0.5 * (distance / (size / 8)) ** 2), dtype=np.float32)


class Buffer:
    """Memory for the logits of one picture at a time, on the device of those that it is given."""

    def __init__(self) -> None:
        self._flat: Planes | None = None

    def zeros(self, like: Planes, shape: tuple[int, int, int]) -> Planes:
        """Return planes of 0; those that were returned before are not valid any more."""
        number = int(np.prod(shape))
        if self._flat is None or len(self._flat) < number:
            self._flat = None
            self._flat = _empty(like, number)
        planes = self._flat[:number].reshape(shape)
        planes[:] = 0
        return planes


class WindowedPicture:
    """The view of overlapping windows at native size (`hbseg.ml.views.View`).

    Raises:
        InvalidInput: the logits of the picture would take more than `MAX_LOGITS` bytes.
    """

    def __init__(self, gray: Picture, size: int, buffer: Buffer) -> None:
        self._windows = Windows(gray.shape[0], gray.shape[1], size)
        _check_size(self._windows)
        self._padded = self._windows.to_network(gray)
        self._waiting = self._windows.places()[::-1]
        self._buffer = buffer

    def crops(self) -> Iterator[Picture]:
        """Yield the windows, row by row."""
        for place in self._windows.places():
            yield self._windows.cut(self._padded, place)

    def add(self, logits_chw: Planes) -> PictureLogits | None:
        """Take the logits of the next window, [29, s, s]; return the picture's after the last.

        s is the window's side divided by the network's output stride.
        """
        place, size = self._waiting.pop(), logits_chw.shape[-1]
        stride = self._windows.size // size
        if place == Place(0, 0):
            self._begin(logits_chw, stride)
        top, left = place.top // stride, place.left // stride
        share = np.outer(self._rows[place.top], self._columns[place.left])
        seen = self._planes[:, top : top + size, left : left + size]
        seen += logits_chw * _as(logits_chw, share)
        if self._waiting:
            return None
        return PictureLogits(self._planes, self._windows.grid(stride))

    def _begin(self, logits_chw: Planes, stride: int) -> None:
        bones, size = logits_chw.shape[0], logits_chw.shape[-1]
        rows, columns = self._windows.shape
        self._planes = self._buffer.zeros(logits_chw, (bones, rows // stride, columns // stride))
        self._rows = _shares(self._windows.tops, size, stride)
        self._columns = _shares(self._windows.lefts, size, stride)


def look_of(view: ViewName) -> Look:
    """Return how a network looks at pictures; each engine needs a look of its own.

    The logits of windows are blended in one buffer for all pictures.
    """
    if view == "whole":
        return whole_picture
    buffer = Buffer()
    return lambda gray, size: WindowedPicture(gray, size, buffer)


def _check_size(windows: Windows) -> None:
    rows, columns = windows.shape
    needed = rows * columns * NUM_BONES * 4
    if needed > MAX_LOGITS:
        raise InvalidInput(
            f"{windows.width} x {windows.height} pixels: the logits of windows would take "
            f"{needed / 2**30:.1f} GiB, expected at most {MAX_LOGITS / 2**30:.1f} GiB",
            "scale the picture down, or take a network that sees the whole picture",
        )


def _starts(length: int, size: int) -> list[int]:
    """Return where windows start along an axis, evenly; neighbours share half or more."""
    count = 1 + -(-(length - size) // (size // 2))
    return [int(start) // GRID * GRID for start in np.linspace(0, length - size, count)]


def _shares(starts: list[int], size: int, stride: int) -> dict[int, NDArray[np.float32]]:
    """Return each window's share in the logits of its rows (or columns), float32 [size].

    The shares of all windows that see a row add up to 1.
    """
    weights = gaussian(size)
    total = np.zeros(starts[-1] // stride + size, dtype=np.float32)
    for start in starts:
        total[start // stride :][:size] += weights
    return {start: weights / total[start // stride :][:size] for start in starts}


def _empty(like: Planes, number: int) -> Planes:
    if isinstance(like, np.ndarray):
        return np.empty(number, dtype=np.float32)
    return like.new_empty(number)


def _as(like: Planes, share: NDArray[np.float32]) -> Planes:
    return share if isinstance(like, np.ndarray) else like.new_tensor(share)
