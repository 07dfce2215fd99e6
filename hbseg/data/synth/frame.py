"""The picture's frame, and turning points in it.

Coordinates are x to the right and y down, in pixels. Two frames are used: the picture (2048 x
2048) and the hand's own frame, that of a right hand with the thumb on the left, upright, with the
origin in the centre of the capitate and `MC3_LENGTH` pixels for the third metacarpal.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""[N, 2] x, y in pixels."""

Image = NDArray[np.float32]
"""[height, width] attenuation or grey values."""

Mask = NDArray[np.uint8]
"""[height, width], 0 or 1."""

SIZE: Final = 2048
"""Width and height of the picture in pixels."""

SUBPIXEL_BITS: Final = 4
"""Outlines are drawn to 1/16 pixel (the `shift` of cv2.fillPoly)."""


def turned(points: Points, degrees: float, centre: tuple[float, float] = (0.0, 0.0)) -> Points:
    """Points [N, 2] turned clockwise on the picture by `degrees` around `centre`."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    result: Points = (np.asarray(points, float) - centre) @ turn.T + centre
    return result


def direction(degrees: float) -> Points:
    """Unit vector [2]: 0 degrees points up, positive angles to the right."""
    angle = np.deg2rad(degrees)
    return np.array([np.sin(angle), -np.cos(angle)])


def blurred(image: Image, sigma: float, sigma_y: float | None = None) -> Image:
    """The image after a Gaussian blur; sigma in pixels, along y `sigma_y` where it differs."""
    result = cv2.GaussianBlur(image, (0, 0), sigma, sigmaY=sigma if sigma_y is None else sigma_y)
    return np.asarray(result, np.float32)


def subpixel(points: Points) -> NDArray[np.int32]:
    """Points [N, 2] as the fixed-point integers that cv2 draws with `shift=SUBPIXEL_BITS`."""
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
