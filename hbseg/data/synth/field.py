"""The exposed field: collimator edges and letterbox borders, and what they hide of the bones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from hbseg.data.synth.frame import SIZE, SUBPIXEL_BITS, Image, Mask, Points, blurred, subpixel
from hbseg.data.synth.looks import Looks

OUTSIDE_GREY: Final = (("black", 0.5, 0, 14), ("grey", 0.32, 40, 150), ("white", 0.18, 225, 255))
"""Name, probability and range of the grey value outside the field."""

CLEARANCE: Final = 10.0
"""Least distance between the bones of the hand and an edge of the field, pixels."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A convex exposed field; outside it the picture has one grey value."""

    corners: Points
    """[N, 2] of the polygon, within the frame."""
    outside: float
    """Grey value outside, 0 to 255."""
    leak: float
    """Share of the picture that scatter lets shine through outside, 0 to 1."""
    penumbra: float
    """Sigma of the edge, pixels; 0 is a hard edge."""
    rim: float
    """Grey values added along the edge (bright or dark line)."""

    def mask(self) -> Mask:
        """[2048, 2048] 1 inside."""
        inside = np.zeros((SIZE, SIZE), np.uint8)
        cv2.fillPoly(inside, [subpixel(self.corners)], (1,), shift=SUBPIXEL_BITS)
        return inside

    def cover(self, picture: Image) -> Image:
        """The picture with everything outside the field covered."""
        inside = self.mask().astype(np.float32)
        if self.penumbra:
            inside = blurred(inside, self.penumbra)
        kept = inside * np.float32(1 - self.leak) + np.float32(self.leak)
        covered: Image = picture * kept + np.float32(self.outside) * (1 - inside)
        if self.rim:
            covered += np.float32(4 * self.rim) * inside * (1 - inside)
        return covered


def sample_fields(bones: Points, looks: Looks, rng: np.random.Generator) -> list[Field]:
    """No, one or two fields: collimated, letterboxed.

    They leave the points `bones` [N, 2] visible.
    """
    fields = []
    if rng.random() < looks.collimated:
        fields.append(_collimated(bones, rng))
    if rng.random() < looks.letterboxed:
        fields.append(_letterboxed(bones, rng))
    return fields


def visible(fields: list[Field]) -> Mask | None:
    """[2048, 2048] 1 where the picture shows the hand; None where nothing is covered."""
    masks = [field.mask() for field in fields]
    return np.bitwise_and.reduce(masks) if masks else None


def _collimated(bones: Points, rng: np.random.Generator) -> Field:
    """One to four slanted edges, corners cut now and then, with a penumbra."""
    slant = float(np.clip(rng.normal(0, 3.5), -9, 9))
    sides = _some_sides(rng)
    edges = [(90.0 * side + slant, 0.0) for side in sides]
    if rng.random() < 0.2:
        edges += [(45 + 90.0 * corner + slant, 0.5) for corner in range(4)]
    return Field(
        corners=_around(bones, edges, rng),
        outside=_outside(rng),
        leak=float(rng.uniform(0, 0.12)),
        penumbra=float(rng.uniform(1, 9)),
        rim=float(rng.normal(0, 40)) if rng.random() < 0.4 else 0.0,
    )


def _letterboxed(bones: Points, rng: np.random.Generator) -> Field:
    """Two opposite straight hard borders, sometimes four."""
    if rng.random() < 0.2:
        angles = [0.0, 90.0, 180.0, 270.0]
    else:
        angles = [0.0, 180.0] if rng.random() < 0.65 else [90.0, 270.0]
    return Field(
        corners=np.round(_around(bones, [(angle, 0.0) for angle in angles], rng)),
        outside=_outside(rng),
        leak=0.0,
        penumbra=0.0,
        rim=0.0,
    )


def _some_sides(rng: np.random.Generator) -> list[int]:
    chosen = [side for side in range(4) if rng.random() < 0.6]
    return chosen or [int(rng.integers(0, 4))]


def _outside(rng: np.random.Generator) -> float:
    shares = [share for _, share, _, _ in OUTSIDE_GREY]
    _, _, low, high = OUTSIDE_GREY[int(rng.choice(len(OUTSIDE_GREY), p=shares))]
    return float(rng.uniform(low, high))


def _around(bones: Points, edges: list[tuple[float, float]], rng: np.random.Generator) -> Points:
    """Corners of the frame after a cut at each edge.

    An edge is its angle (0 is the right side, 90 the bottom) and the least share of the room
    between the bones and the frame that it leaves open.
    """
    corners = np.array([(0, 0), (SIZE - 1, 0), (SIZE - 1, SIZE - 1), (0, SIZE - 1)], float)
    frame = corners
    for degrees, least in edges:
        normal = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
        nearest = float((bones @ normal).max()) + CLEARANCE
        farthest = float((frame @ normal).max())
        if nearest < farthest:
            corners = _cut(
                corners, normal, nearest + (farthest - nearest) * float(rng.uniform(least, 1))
            )
    return corners


def _cut(corners: Points, normal: Points, offset: float) -> Points:
    """The part of a convex polygon with `corner @ normal <= offset`."""
    above = corners @ normal - offset
    kept = []
    for i, corner in enumerate(corners):
        here, after = above[i], above[(i + 1) % len(corners)]
        if here <= 0:
            kept.append(corner)
        if (here <= 0) != (after <= 0):
            share = here / (here - after)
            kept.append(corner + share * (corners[(i + 1) % len(corners)] - corner))
    return np.array(kept)
