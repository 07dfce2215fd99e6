"""How the network sees a picture: as one or more crops of its input size.

A view cuts a picture into crops and puts their logits together. `whole_picture` is the view of one
crop that holds the whole picture; another way to look at pictures is another function of the type
`Look`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hbseg.errors import InvalidInput
from hbseg.ml.frame import Frame, Grid

if TYPE_CHECKING:
    from torch import Tensor  # ONNX engines run without torch

MAX_SIDE: Final = 20_000
"""Longest side of a picture that is padded to a square, in pixels: the square takes 400 MB."""
Picture = NDArray[np.uint8]
"""Grey levels, uint8 [height, width]."""
Planes: TypeAlias = "NDArray[np.float32] | Tensor"
"""Logits of the bones, float32 [29, h, w]: an array, or a tensor on an engine's device."""


@dataclass(frozen=True)
class PictureLogits:
    """The logits of a whole picture, and its place on them."""

    logits_chw: Planes
    grid: Grid


class View(Protocol):
    """One picture as crops of the network's input size."""

    def crops(self) -> Iterator[Picture]:
        """Yield the crops, uint8 [size, size]; at least one, always in the same order."""

    def add(self, logits_chw: Planes) -> PictureLogits | None:
        """Take the logits of the next crop in order; return the picture's after the last crop.

        What is taken is valid only during the call, and what is returned until the next crop of
        any picture is computed.
        """


Look = Callable[[Picture, int], View]
"""Turns a picture and the network's input size into a view; called in the thread that reads."""


@dataclass(frozen=True)
class WholePicture:
    """The view of one crop: the picture padded to a square and scaled."""

    frame: Frame
    image_hw: Picture

    def crops(self) -> Iterator[Picture]:
        """Yield the one crop."""
        yield self.image_hw

    def add(self, logits_chw: Planes) -> PictureLogits:
        """Return the crop's logits: they are the picture's."""
        return PictureLogits(logits_chw, self.frame.grid(logits_chw.shape[-1]))


def whole_picture(gray: Picture, size: int) -> WholePicture:
    """Return the view of a picture as a single crop.

    Raises:
        InvalidInput: a side is longer than `MAX_SIDE`.
    """
    frame = Frame.of(gray.shape[0], gray.shape[1], size)
    if frame.side > MAX_SIDE:
        raise InvalidInput(
            f"{frame.width} x {frame.height} pixels, expected a longer side of at most "
            f"{MAX_SIDE:,}: the picture is padded to a square",
            "cut out the hand, or scale the picture down",
        )
    return WholePicture(frame, frame.to_network(gray))
