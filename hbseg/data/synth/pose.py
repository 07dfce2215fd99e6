"""The pose of one hand on the plate: wrist, spread of the fingers, directions of their bones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from hbseg.anatomy import RAYS
from hbseg.data.synth.atlas import (
    METACARPAL_ANGLE,
    NEXT_PHALANX_TURN,
    PROXIMAL_PHALANX_ANGLE,
)
from hbseg.data.synth.looks import Looks

DEVIATION_DEG: Final = (20.0, 38.0)
"""Ulnar deviation of a bent wrist; a straight one is 0 +- 3 degrees."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Angles in degrees, gaps in pixels of the hand's frame."""

    deviated: bool
    """Whether the wrist is bent to the ulnar side."""
    wrist: float
    """Angle of the hand against the forearm, positive to the ulnar side."""
    bone: dict[str, float]
    """Direction of each finger bone against the hand's axis."""
    bow: dict[str, float]
    """Sideways bend of each finger bone, pixels."""
    gap: dict[str, float]
    """Joint space beyond the head of each finger bone, pixels."""


def sample_pose(rng: np.random.Generator, deviated_probability: float, looks: Looks) -> Pose:
    """A pose; with `deviated_probability` the wrist is bent to the ulnar side."""
    deviated = bool(rng.random() < deviated_probability)
    wrist = float(rng.normal(0, 3)) + (float(rng.uniform(*DEVIATION_DEG)) if deviated else 0.0)
    spread = float(np.clip(rng.normal(1.15, 0.35), 0.45, 2.0))
    thumb = float(np.clip(rng.normal(1, 0.22), 0.5, 1.5))
    if rng.random() < looks.closed_fingers:
        spread, thumb = float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.35, 0.9))
    bone: dict[str, float] = {}
    for ray in RAYS:
        bone |= _ray(rng, ray, spread, thumb)
    return Pose(
        deviated=deviated,
        wrist=wrist,
        bone=bone,
        bow={b: float(rng.normal(0, 3)) - (8 if b == "finger-3" else 0) for b in bone},
        gap={b: _gap(rng, b) for b in bone},
    )


def _ray(rng: np.random.Generator, ray: str, spread: float, thumb: float) -> dict[str, float]:
    """Directions of one finger's bones, from the metacarpal to the tip."""
    mean, sd = METACARPAL_ANGLE[ray]
    opening = thumb if ray == "thumb" else 0.7 + 0.3 * spread
    metacarpal, proximal, *further = reversed(RAYS[ray])
    angles = {metacarpal: mean * opening + float(rng.normal(0, sd * 0.5))}
    mean, sd = PROXIMAL_PHALANX_ANGLE[ray]
    angle = mean * (thumb if ray == "thumb" else spread) + float(rng.normal(0, sd * 0.5))
    angles[proximal] = angle
    for bone in further:
        angle += 0.7 * float(rng.normal(*NEXT_PHALANX_TURN[ray]))
        angles[bone] = angle
    return angles


def _gap(rng: np.random.Generator, bone: str) -> float:
    metacarpals = {bones[-1] for bones in RAYS.values()}
    return float(rng.uniform(2, 9) if bone in metacarpals else rng.uniform(0, 6))
