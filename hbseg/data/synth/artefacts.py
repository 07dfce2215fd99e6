"""What lies on the plate beside the hand: ring, markers, bright strip, lines."""

from __future__ import annotations

from typing import Final, Literal

import cv2
import numpy as np

from hbseg.data.synth.frame import SIZE, SUBPIXEL_BITS, Image, Mask, blurred, turned
from hbseg.data.synth.looks import Looks
from hbseg.data.synth.placement import PosedHand
from hbseg.data.synth.soft_tissue import REDUCTION

Side = Literal["R", "L"]

METAL: Final = 1.2
"""Attenuation of a ring's wall."""

LEAD_GREY: Final = 240.0
"""Grey value of a lead marker."""

MARKER_COARSENESS: Final = 4
"""Free room for markers is searched at this fraction of the silhouette's resolution."""


def add_ring(attenuation: Image, hand: PosedHand) -> None:
    """Adds the person's finger ring, if any, to the attenuation in place."""
    if hand.person.ring_bone is None:
        return
    k, wide = hand.scale, hand.scale * hand.person.flesh
    base, head = hand.axes[hand.person.ring_bone]
    x, y = base * 0.62 + head * 0.38
    along = head - base
    angle = float(np.degrees(np.arctan2(along[1], along[0]))) + 90
    reach = int(74 * wide) + 24
    left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
    part = attenuation[top : int(y) + reach, left : int(x) + reach]
    ring = np.zeros(part.shape, np.float32)
    radii = (int(74 * wide), int(12 * k))
    centre = (int(x) - left, int(y) - top)
    cv2.ellipse(ring, centre, radii, angle, 0, 360, (METAL,), max(1, int(9 * k)))
    part += blurred(ring, 1.5)


def add_plate_artefacts(
    picture: Image, body: Mask, side: Side, looks: Looks, rng: np.random.Generator
) -> None:
    """Adds strip, line and markers to the grey values in place.

    Markers keep clear of `body`, the silhouette [512, 512].
    """
    if rng.random() < looks.strip:
        _add_strip(picture, rng)
    if rng.random() < looks.line:
        _add_line(picture, rng)
    if rng.random() < looks.marker:
        _stick(picture, _plain_marker(side), body, rng)
    elif rng.random() < looks.odd_marker:
        _stick(picture, _odd_marker(side, rng), body, rng)


def _add_strip(picture: Image, rng: np.random.Generator) -> None:
    """A bright strip along the top edge, slightly slanted, 6 to 34 pixels high."""
    height, slope = float(rng.uniform(6, 34)), float(rng.normal(0, 0.012))
    rows = np.arange(160, dtype=np.float32)[:, None]
    edge = height + slope * (np.arange(SIZE, dtype=np.float32)[None, :] - SIZE / 2)
    picture[:160] += 245 / (1 + np.exp((rows - edge) / 6))


def _add_line(picture: Image, rng: np.random.Generator) -> None:
    """A thin line from edge to edge, nearly upright or level, that shows on flesh and bone."""
    start, end = rng.uniform(0, SIZE), float(rng.normal(0, 40))
    line = np.array([(start, -20), (start + end, SIZE + 20)])
    if rng.random() < 0.4:
        line = line[:, ::-1]
    drawn = np.zeros((SIZE, SIZE), np.uint8)
    path = np.round(line * (1 << SUBPIXEL_BITS)).astype(np.int32)
    thick = int(rng.integers(1, 5))
    cv2.polylines(drawn, [path], False, (255,), thick, cv2.LINE_AA, SUBPIXEL_BITS)
    picture += drawn * np.float32(rng.choice([-1, 1, 1]) * rng.uniform(0.1, 0.6))


def _plain_marker(side: Side) -> Image:
    """[height, width] grey values of an upright letter; negative where nothing is added."""
    return _letters([side], 5.0, 16)


def _odd_marker(side: Side, rng: np.random.Generator) -> Image:
    """A marker as clinics use them, or a blank label.

    A small or large letter, turned, boxed, with initials, now and then the wrong one.
    """
    if rng.random() < 0.2:
        height, width = rng.integers(60, 320, 2)
        return np.full((height, width), rng.choice([0.0, 12.0, 245.0]), np.float32)
    letter = side if rng.random() < 0.85 else ("L" if side == "R" else "R")
    lines: list[str] = [letter]
    if rng.random() < 0.5:
        lines.append("".join(rng.choice(list("ABCDEGHJKMPSTW"), int(rng.integers(2, 4)))))
    size = float(rng.uniform(2.0, 6.0))
    patch = _letters(lines, size, max(2, int(size * rng.uniform(1.5, 4))))
    if rng.random() < 0.5:
        plate = float(rng.uniform(0, 90))
        patch = np.where(patch < 0, np.float32(plate), patch)
    return _turned_patch(patch, float(rng.normal(0, 25)))


def _letters(lines: list[str], size: float, thick: int) -> Image:
    ink = np.zeros((int(len(lines) * size * 32) + 20, int(size * 46) + 20), np.uint8)
    for row, text in enumerate(lines):
        scale = size / max(1, len(text) - 0.5)
        foot = (14, int((row + 1) * size * 30) + 4)
        cv2.putText(ink, text, foot, cv2.FONT_HERSHEY_SIMPLEX, scale, (255,), thick)
    return np.where(ink > 127, np.float32(LEAD_GREY), np.float32(-1))


def _turned_patch(patch: Image, degrees: float) -> Image:
    height, width = patch.shape
    half = np.array([width, height]) / 2
    corners = turned(np.array([-half, half, half * (1, -1), half * (-1, 1)]), degrees)
    reach = np.ceil(np.abs(corners).max(0)).astype(int)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1.0)
    matrix[:, 2] += reach - half
    target = (int(2 * reach[0]), int(2 * reach[1]))
    warped = cv2.warpAffine(patch, matrix, target, flags=cv2.INTER_NEAREST, borderValue=(-1,))
    return np.asarray(warped, np.float32)


def _stick(picture: Image, patch: Image, body: Mask, rng: np.random.Generator) -> None:
    """Puts the patch where there is room beside the hand; nowhere if there is none."""
    height, width = patch.shape
    spot = _free_spot(body, height, width, rng)
    if spot is None:
        return
    top, left = spot
    part = picture[top : top + height, left : left + width]
    np.copyto(part, patch, where=patch >= 0)


def _free_spot(
    body: Mask, height: int, width: int, rng: np.random.Generator
) -> tuple[int, int] | None:
    """(top, left) in picture pixels of a rectangle that keeps clear of the silhouette."""
    step = MARKER_COARSENESS * REDUCTION
    coarse = cv2.dilate(body, np.ones((5, 5), np.uint8))[::MARKER_COARSENESS, ::MARKER_COARSENESS]
    sums = cv2.integral(coarse)
    rows, columns = -(-height // step) + 1, -(-width // step) + 1
    if rows >= len(coarse) or columns >= len(coarse):
        return None
    taken = sums[rows:, columns:] - sums[:-rows, columns:]
    taken = taken - sums[rows:, :-columns] + sums[:-rows, :-columns]
    tops, lefts = np.nonzero(taken == 0)
    if not len(tops):
        return None
    chosen = int(rng.integers(len(tops)))
    return int(tops[chosen]) * step, int(lefts[chosen]) * step
