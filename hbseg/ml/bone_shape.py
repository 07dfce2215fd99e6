"""Where a bone is in its picture and how it is turned, from the runs of its mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import INDEX
from hbseg.rle import Runs, Segments, segments

Vector = NDArray[np.float64]
"""[2] of x, y in pixels."""


@dataclass(frozen=True)
class BoneShape:
    """The mask of one bone and its moments."""

    segments: Segments
    area: int
    """In pixels."""
    centre: Vector
    """Centroid of the mask's pixels."""
    spread: NDArray[np.float64]
    """Covariance of the pixels' x and y, [2, 2]."""

    @property
    def axis(self) -> Vector:
        """Unit vector along the bone, to either end: the direction in which its pixels spread."""
        vectors = np.linalg.eigh(self.spread).eigenvectors
        return np.asarray(vectors[:, 1], dtype=np.float64)


def bone_shape(runs: Runs, height: int, width: int) -> BoneShape | None:
    """Return the shape of a mask in a picture; None where it is empty.

    Raises:
        ValueError: runs leave a picture of `height` x `width` pixels.
    """
    if not len(runs):
        return None
    of = segments(runs, height, width)
    number = (of.right - of.left).astype(np.float64)
    area = float(number.sum())
    middles = np.stack([(of.left + of.right - 1) / 2, of.row])
    centre = middles @ number / area
    apart = middles - centre[:, None]
    spread = (apart * number) @ apart.T / area
    spread[0, 0] += (number * (number**2 - 1)).sum() / (12 * area)  # within each segment
    return BoneShape(of, int(area), centre, spread)


def wrist_angle(runs: Sequence[Runs], height: int, width: int) -> float | None:
    """Return how far the hand is bent at the wrist, in degrees, positive to the ulna.

    The angle between the axis of the forearm (the mean of those of Radius and Ulna) and that of the
    third metacarpal, -180 to 180; a straight wrist has a few degrees. The same for both hands and
    for any rotation of the picture. None where one of the three bones is not there.

    Args:
        runs: of the 29 masks, in class order.
        height: rows of the picture, in pixels.
        width: columns of the picture, in pixels.
    """
    bones = ("Radius", "Ulna", "finger-11")
    shapes = [bone_shape(runs[INDEX[bone]], height, width) for bone in bones]
    if None in shapes:
        return None
    radius, ulna, metacarpal = (shape for shape in shapes if shape is not None)
    distal = metacarpal.centre - (radius.centre + ulna.centre) / 2
    forearm = _along(radius.axis, distal) + _along(ulna.axis, distal)
    to_radius = radius.centre - ulna.centre
    angle = math.degrees(_turn(forearm, _along(metacarpal.axis, distal)))
    return -math.copysign(1.0, _cross(forearm, to_radius)) * angle


def _along(axis: Vector, direction: Vector) -> Vector:
    return axis if axis @ direction >= 0 else -axis


def _cross(first: Vector, second: Vector) -> float:
    return float(first[0] * second[1] - first[1] * second[0])


def _turn(first: Vector, second: Vector) -> float:
    return math.atan2(_cross(first, second), float(first @ second))
