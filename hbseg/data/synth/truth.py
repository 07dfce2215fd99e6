"""The truth: polygons as an annotator draws them around each visible bone."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import FOREARM
from hbseg.data.synth.frame import SIZE, SUBPIXEL_BITS, Mask, Points, subpixel

Polygon = NDArray[np.int32]

APPROXIMATION: Final = 1.3
"""Largest distance between a polygon and the drawn contour, pixels; gives 17 to 63 corners."""

ANNOTATOR_SD: Final = 1.0
"""Unsteadiness of the annotator's hand at each corner, pixels."""


def annotate(
    outlines: dict[str, Points], visible: Mask | None, rng: np.random.Generator
) -> dict[str, Polygon]:
    """A polygon for each bone; Radius and Ulna as chains of neighbouring pixels.

    `visible` [2048, 2048] is 0 where the picture hides the hand.
    """
    return {bone: _annotated(bone, outline, visible, rng) for bone, outline in outlines.items()}


def _annotated(
    bone: str, outline: Points, visible: Mask | None, rng: np.random.Generator
) -> Polygon:
    contour = _contour(outline, visible)
    if bone in FOREARM:
        return contour
    corners = cv2.approxPolyDP(contour, APPROXIMATION, True)[:, 0]
    unsteady = np.round(corners + rng.normal(0, ANNOTATOR_SD, corners.shape))
    return np.clip(unsteady, 0, SIZE - 1).astype(np.int32)


def _contour(outline: Points, visible: Mask | None) -> Polygon:
    """[N, 2] pixels of the largest contour of the drawn bone inside frame and field."""
    low = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(outline.max(0)).astype(int) + 2, SIZE)
    (left, top), (right, bottom) = low, high
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [subpixel(outline - low)], (1,), shift=SUBPIXEL_BITS)
    if visible is not None:
        mask &= visible[top:bottom, left:right]
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)[:, 0]
    return np.asarray(largest + low, np.int32)
