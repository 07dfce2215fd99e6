"""Soft tissue: the hand's silhouette and how thick the flesh is, at a quarter of the resolution."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from hbseg.anatomy import DISTAL_PHALANGES, RAYS
from hbseg.data.synth.frame import SIZE, Image, Mask, Points, blurred
from hbseg.data.synth.placement import PosedHand

REDUCTION: Final = 4
"""Picture pixels for one pixel of the maps here; flesh has no sharp edges."""

MU: Final = 0.0025
"""Attenuation of soft tissue for each pixel of thickness."""

FINGER_RADIUS: Final = {"thumb": 64, "index": 68, "middle": 70, "ring": 66, "little": 56}
"""Half the thickness of each finger at its root, pixels of the hand's frame."""

TAPER: Final = ((1.0, 1.0), (1.04, 0.86), (0.84, 0.74), (0.74, 0.56))
"""Factors at base and head of a finger's bones, metacarpal first."""

THUMB_TAPER: Final = ((1.25, 1.05), (1.0, 0.92), (0.92, 0.70))

FINGERTIP: Final = 14.0
"""Flesh beyond the tip of the last phalanx, pixels of the hand's frame."""

FLAT_RADIUS: Final = 150.0
"""Beyond this half thickness the body is flat: the palm is no cylinder."""


def silhouette(hand: PosedHand) -> Mask:
    """[512, 512] mask of the hand and forearm."""
    body = np.zeros((SIZE // REDUCTION, SIZE // REDUCTION), np.uint8)
    for ray, bones in RAYS.items():
        taper = THUMB_TAPER if ray == "thumb" else TAPER
        radius = FINGER_RADIUS[ray] * hand.scale * hand.person.flesh
        for bone, (at_base, at_head) in zip(reversed(bones), taper, strict=True):
            base, head = hand.axes[bone]
            if bone in DISTAL_PHALANGES:
                length = float(np.linalg.norm(head - base))
                head = head + (head - base) / length * FINGERTIP * hand.scale
            _capsule(body, base, head, radius * at_base, radius * at_head)
    palm = cv2.convexHull(_palm(hand).astype(np.float32))[:, 0]
    for outline in (palm, _forearm(hand)):
        cv2.fillPoly(body, [np.round(outline / REDUCTION).astype(np.int32)], (255,))
    return np.asarray(cv2.GaussianBlur(body, (0, 0), 11) > 118, np.uint8)


def _capsule(body: Mask, base: Points, head: Points, at_base: float, at_head: float) -> None:
    """Draws a tapering rod as a row of discs; radii in picture pixels."""
    for share in np.linspace(0, 1, 14):
        x, y = (base * (1 - share) + head * share) / REDUCTION
        radius = (at_base * (1 - share) + at_head * share) / REDUCTION
        cv2.circle(body, (int(x), int(y)), max(1, int(radius)), (255,), -1)


def _palm(hand: PosedHand) -> Points:
    """Points whose hull is the palm; offsets in pixels of the hand's frame."""
    k, wide = hand.scale, hand.scale * hand.person.flesh
    little, thumb = hand.axes["finger-19"], hand.axes["finger-3"]
    return np.array(
        [
            little[1] + (50 * wide, 40 * k),
            hand.axes["finger-15"][1],
            hand.axes["finger-11"][1],
            hand.axes["finger-7"][1] + (-45 * wide, 30 * k),
            thumb[1] + (40 * k, 60 * k),
            thumb[0] + (-60 * wide, 60 * k),
            little[0] + (85 * wide, 60 * k),
        ]
    )


def _forearm(hand: PosedHand) -> Points:
    flesh = hand.person.flesh
    radial = [(-215 - 25 * flesh, 40), (-196 * flesh, 190), (-176 * flesh, 420)]
    radial += [(-200 * flesh, 900), (-215 * flesh, 2600)]
    ulnar = [(265 * flesh, 2600), (250 * flesh, 900), (222 * flesh, 420)]
    ulnar += [(218 * flesh, 190), (205 + 25 * flesh, 20)]
    return hand.placement.place(np.array(radial + ulnar))


def attenuation(body: Mask, hand: PosedHand, rng: np.random.Generator) -> Image:
    """[2048, 2048] attenuation of the flesh.

    Chords through a body that is round at its edges and flat in the palm, fuller at the thumb's
    ball, thicker in the forearm.
    """
    k = hand.scale
    depth = np.asarray(cv2.distanceTransform(body, cv2.DIST_L2, 5), np.float32) * REDUCTION
    radius = blurred(np.asarray(cv2.dilate(depth, np.ones((41, 41), np.uint8)), np.float32), 14)
    radius = np.minimum(radius, np.float32(FLAT_RADIUS * k * hand.person.flesh))
    flatness = 0.6 + 0.4 * np.clip(np.float32(120 * k) / np.maximum(radius, 1), 0, 1)
    chord = chords(np.minimum(depth, radius), radius)
    speckle = rng.standard_normal(body.shape, dtype=np.float32)
    chord *= flatness * (1 + 1.05 * blurred(speckle, 22))
    chord += body * _thumb_ball(hand)
    rows = np.arange(len(body), dtype=np.float32)[:, None] * REDUCTION
    chord *= 1 + 0.42 / (1 + np.exp(-(rows - hand.placement.centre[1] - 120 * k) / (70 * k)))
    chord = blurred(chord, 1.2) * np.float32(MU)
    full = cv2.resize(chord, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(full, np.float32)


def chords(depth: Image, radius: Image) -> Image:
    """Length of a ray through a round body of half width `radius`, at `depth` from its edge."""
    radius = np.maximum(radius, np.float32(1))
    inside = radius - np.clip(depth, np.float32(0), radius)
    return 2 * np.sqrt(np.maximum(radius * radius - inside * inside, 0))


def _thumb_ball(hand: PosedHand) -> Image:
    """[512, 512] extra thickness of the thenar muscle, pixels."""
    k = hand.scale
    x, y = (hand.axes["finger-3"].mean(0) + np.array([35 * k, 10])) / REDUCTION
    at = np.arange(SIZE // REDUCTION, dtype=np.float32)
    across = np.exp(-(((at - x) / (42 * k)) ** 2))
    along = np.exp(-(((at - y) / (55 * k)) ** 2))
    return np.asarray(60 * k * along[:, None] * across[None, :], np.float32)
