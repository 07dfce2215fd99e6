"""The 29 bones of the hand: their order, groups, rays and colours.

The order is the class order of masks, logits and submissions everywhere. Source: the task's data
description; finger 1-3 is the thumb, 4-7 index, 8-11 middle, 12-15 ring, 16-19 little finger,
each counted from the tip.
"""

from __future__ import annotations

import colorsys
from typing import Final

FINGER_BONES: Final = tuple(f"finger-{number}" for number in range(1, 20))
"""19 finger bones: phalanges and metacarpals."""

CARPALS: Final = (
    "Trapezium",
    "Trapezoid",
    "Capitate",
    "Hamate",
    "Scaphoid",
    "Lunate",
    "Triquetrum",
    "Pisiform",
)
"""8 carpal bones, distal row first."""

FOREARM: Final = ("Radius", "Ulna")
"""2 bones of the forearm."""

BONES: Final = FINGER_BONES + CARPALS + FOREARM
"""All 29 bones in class order."""

NUM_BONES: Final = len(BONES)

INDEX: Final = {bone: index for index, bone in enumerate(BONES)}
"""Class index (0 to 28) of each bone."""

RAYS: Final = {
    "thumb": ("finger-1", "finger-2", "finger-3"),
    "index": ("finger-4", "finger-5", "finger-6", "finger-7"),
    "middle": ("finger-8", "finger-9", "finger-10", "finger-11"),
    "ring": ("finger-12", "finger-13", "finger-14", "finger-15"),
    "little": ("finger-16", "finger-17", "finger-18", "finger-19"),
}
"""Bones of each finger from the tip to the metacarpal."""

DISTAL_PHALANGES: Final = tuple(bones[0] for bones in RAYS.values())
METACARPALS: Final = tuple(bones[-1] for bones in RAYS.values())

GROUPS: Final = {
    "distal phalanges": DISTAL_PHALANGES,
    "other phalanges": tuple(b for bones in RAYS.values() for b in bones[1:-1]),
    "metacarpals": METACARPALS,
    "carpals": CARPALS,
    "forearm": FOREARM,
}
"""Groups that a table of figures is read by; every bone is in exactly one."""


def _colour(index: int) -> tuple[int, int, int]:
    hue = (index * 0.61803398875) % 1.0  # golden ratio: neighbours in order differ most
    lightness = 0.55 + 0.08 * (index % 3)
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


COLOURS: Final = {bone: _colour(index) for index, bone in enumerate(BONES)}
"""One RGB colour (0 to 255) for each bone, the same in every picture."""
