"""Where a picture of any size is in the network's square input.

The picture is padded to a square of its longer side and scaled, so that it keeps its proportions.
Pixel centres are shared: a point x of the padded picture is at (x + 0.5) * size / side - 0.5 in
the network's frame. Labels that are resampled in any other way are shifted against the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """Place of a picture of height x width on a plane of logits.

    The centre of the picture's pixel in row y is in row (y + top + 0.5) * scale - 0.5 of the
    plane; columns likewise with `left`. The plane may be of any size: its edges are repeated.
    """

    height: int
    width: int
    scale: float
    """Pixels of the plane per native pixel."""
    top: int = 0
    """Rows of padding above the picture, in native pixels."""
    left: int = 0
    """Columns of padding left of the picture, in native pixels."""


@dataclass(frozen=True)
class Frame:
    """Place of a picture of height x width in a padded square of `side`, scaled to `size`."""

    height: int
    width: int
    size: int
    """Side of the network's input, in pixels."""

    @classmethod
    def of(cls, height: int, width: int, size: int) -> Self:
        """Return the frame of a picture."""
        return cls(height, width, size)

    @property
    def side(self) -> int:
        """Side of the padded square, in native pixels."""
        return max(self.height, self.width)

    @property
    def top(self) -> int:
        """Rows of padding above the picture, in native pixels."""
        return (self.side - self.height) // 2

    @property
    def left(self) -> int:
        """Columns of padding left of the picture, in native pixels."""
        return (self.side - self.width) // 2

    @property
    def steps(self) -> tuple[int, int]:
        """Smallest numbers of native and network pixels of equal length."""
        divisor = math.gcd(self.side, self.size)
        return self.side // divisor, self.size // divisor

    def grid(self, size: int) -> Grid:
        """Return the picture's place on a plane of `size` x `size` that shows the whole square."""
        return Grid(self.height, self.width, size / self.side, self.top, self.left)

    def to_network(self, gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture, uint8 [height, width], as the network sees it, uint8 [size, size].

        Padding repeats the edge: a black frame drawn beside a bright background looks like a
        collimator's edge, and draws false bones.
        """
        square: NDArray[Any] = gray
        if self.height != self.width:
            square = cv2.copyMakeBorder(
                gray,
                self.top,
                self.side - self.height - self.top,
                self.left,
                self.side - self.width - self.left,
                cv2.BORDER_REPLICATE,
            )
        method = cv2.INTER_AREA if self.side >= self.size else cv2.INTER_LINEAR
        scaled = cv2.resize(square, (self.size, self.size), interpolation=method)
        return np.ascontiguousarray(scaled, dtype=np.uint8)
