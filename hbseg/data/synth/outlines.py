"""Outlines of single bones, as smooth closed curves through control points."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import DISTAL_PHALANGES, METACARPALS
from hbseg.data.synth.atlas import LONG_BONES
from hbseg.data.synth.frame import Points

Kind = Literal["distal", "phalanx", "metacarpal"]

WIDTH_SD: Final = 0.025
"""Unevenness of a long bone's width along its shaft, share of the width."""

ASYMMETRY_SD: Final = 0.018
"""Unevenness between the two sides of a long bone, share of the width."""

# Stations along the bone (0 base, 1 head) and, at each, the parts of the widths at base, waist
# and head that make up the width there.
_DISTAL: Final = (
    (0.00, 0.62, 0.00, 0.00),
    (0.03, 0.92, 0.00, 0.00),
    (0.08, 1.00, 0.00, 0.00),
    (0.16, 0.86, 0.00, 0.00),
    (0.30, 0.63, 0.00, 0.00),
    (0.45, 0.00, 0.98, 0.00),
    (0.60, 0.00, 1.00, 0.00),
    (0.72, 0.00, 0.00, 1.00),
    (0.84, 0.00, 0.00, 1.06),
    (0.93, 0.00, 0.00, 0.92),
    (0.98, 0.00, 0.00, 0.55),
)
_PHALANX: Final = (
    (0.000, 0.74, 0.00, 0.00),
    (0.015, 0.96, 0.00, 0.00),
    (0.050, 1.00, 0.00, 0.00),
    (0.100, 0.97, 0.00, 0.00),
    (0.200, 0.74, 0.10, 0.00),
    (0.350, 0.12, 0.93, 0.00),
    (0.550, 0.00, 1.00, 0.00),
    (0.720, 0.00, 1.04, 0.00),
    (0.840, 0.00, 0.00, 0.93),
    (0.910, 0.00, 0.00, 1.00),
    (0.965, 0.00, 0.00, 0.97),
    (0.995, 0.00, 0.00, 0.70),
)
_METACARPAL: Final = (
    (0.000, 0.55, 0.00, 0.00),
    (0.020, 0.88, 0.00, 0.00),
    (0.060, 1.00, 0.00, 0.00),
    (0.110, 0.93, 0.00, 0.00),
    (0.200, 0.68, 0.10, 0.00),
    (0.350, 0.00, 1.08, 0.00),
    (0.520, 0.00, 1.00, 0.00),
    (0.680, 0.00, 1.12, 0.00),
    (0.790, 0.00, 0.00, 0.82),
    (0.860, 0.00, 0.00, 1.00),
    (0.910, 0.00, 0.00, 0.98),
    (0.955, 0.00, 0.00, 0.80),
    (0.990, 0.00, 0.00, 0.42),
)
STATIONS: Final[dict[Kind, NDArray[np.float64]]] = {
    "distal": np.array(_DISTAL),
    "phalanx": np.array(_PHALANX),
    "metacarpal": np.array(_METACARPAL),
}

HEAD_END: Final[dict[Kind, float]] = {"distal": 1.005, "phalanx": 0.985, "metacarpal": 1.008}
"""Where the head ends on the axis, share of the length: phalanges have a shallow notch there."""

BASE_END: Final[dict[Kind, float]] = {"distal": -0.005, "phalanx": -0.012, "metacarpal": -0.02}
"""Where the base ends on the axis (image y is down, so negative is inside: a concave base)."""


def kind_of(bone: str) -> Kind:
    """The shape family of a finger bone."""
    if bone in METACARPALS:
        return "metacarpal"
    return "distal" if bone in DISTAL_PHALANGES else "phalanx"


def smooth(control: Points, steps: int) -> Points:
    """Closed Catmull-Rom curve through the control points, `steps` points to each."""
    before, here = np.roll(control, 1, 0)[:, None], control[:, None]
    after, beyond = np.roll(control, -1, 0)[:, None], np.roll(control, -2, 0)[:, None]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve: Points = 0.5 * (
        2 * here
        + (after - before) * t
        + (2 * before - 5 * here + 4 * after - beyond) * t**2
        + (3 * here - before - 3 * after + beyond) * t**3
    )
    return curve.reshape(-1, 2)


def polyline(control: Points, steps: int) -> Points:
    """Open chain of straight lines through the control points, `steps` points to each."""
    at = np.linspace(0, len(control) - 1, steps * len(control))
    return np.stack([np.interp(at, np.arange(len(control)), control[:, i]) for i in (0, 1)], 1)


def long_bone(
    bone: str, length: float, width: float, bow: float, rng: np.random.Generator
) -> Points:
    """Outline of a finger bone: its axis runs from (0, 0) at the base to (0, -length) at the head.

    `length` and `bow` (sideways bend of the axis) in pixels, `width` a factor.
    """
    shape, kind = LONG_BONES[bone], kind_of(bone)
    at, parts = STATIONS[kind][:, 0], STATIONS[kind][:, 1:]
    widths = parts @ (np.array([shape.base, shape.waist, shape.head]) * width)
    widths = widths * rng.normal(1, WIDTH_SD, len(at))
    sway = rng.normal(0, 0.024 * length**0.5, len(at)) * (at > 0.05)
    axis = bow * np.sin(np.pi * at) + sway
    share = rng.normal(0.5, ASYMMETRY_SD, len(at))
    left = np.c_[axis - widths * share, -at * length]
    right = np.c_[axis + widths * (1 - share), -at * length]
    head = np.array([[axis[-1], -length * HEAD_END[kind]]])
    base = np.array([[0.0, BASE_END[kind] * length]])
    if kind == "metacarpal":
        base[0, 0] = rng.normal(0, 4)
    return smooth(np.vstack([left, head, right[::-1], base]), 6)
