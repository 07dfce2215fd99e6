"""A person: what both of their hands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from hbseg.anatomy import CARPALS
from hbseg.data.synth.atlas import CARPAL_OUTLINE, LONG_BONES
from hbseg.data.synth.frame import Points
from hbseg.data.synth.looks import Looks

RING_BONES: Final = ("finger-6", "finger-10", "finger-14", "finger-18")
"""Proximal phalanges that may carry a ring."""

CONTROL_POINT_SD: Final = 3.2
"""Spread of a carpal's control points between people, pixels."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """Build of a person.

    Factors are relative to the mean hand, lengths in pixels of the hand's frame.
    """

    scale: float
    """Size of the hands on the plate."""
    length: dict[str, float]
    """Length of each finger bone as a share of `MC3_LENGTH`."""
    width: float
    """Width of the finger bones."""
    flesh: float
    """Thickness of the soft tissue."""
    cortex: float
    """Thickness of the cortical shell."""
    density: float
    """Mineral density."""
    carpal_size: dict[str, float]
    """Size of each carpal."""
    carpal_shape: dict[str, Points]
    """Offset of each carpal's control points."""
    ulnar_variance: float
    """How much lower (positive) or higher the ulna ends."""
    pisiform_offset: Points
    """The pisiform lies in front of the triquetrum and projects here or there."""
    ring_bone: str | None
    """Bone under a ring."""
    sesamoid: bool
    """Whether the sesamoid of the thumb shows."""
    youth: float
    """0 is adult, 1 about twelve years: carpals smaller and apart, bones slim."""


def sample_person(rng: np.random.Generator, looks: Looks) -> Person:
    """A person drawn from the population."""
    youth = float(rng.uniform(0.3, 1.0)) * bool(rng.random() < looks.young)
    ring_bone = str(rng.choice(RING_BONES))
    return Person(
        scale=_factor(rng, 0.075, 0.84, 1.18),
        length={
            name: float(rng.normal(bone.length, bone.length_sd))
            for name, bone in LONG_BONES.items()
        },
        width=_factor(rng, 0.06, 0.86, 1.16) * (1 - 0.13 * youth),
        flesh=_factor(rng, 0.10, 0.8, 1.3),
        cortex=_factor(rng, 0.18, 0.55, 1.5) * (1 - 0.2 * youth),
        density=_factor(rng, 0.10, 0.7, 1.25),
        carpal_size={name: float(rng.normal(1, 0.04)) * (1 - 0.12 * youth) for name in CARPALS},
        carpal_shape={
            name: rng.normal(0, CONTROL_POINT_SD, (len(CARPAL_OUTLINE[name]), 2))
            for name in CARPALS
        },
        ulnar_variance=float(rng.normal(0, 14)),
        pisiform_offset=rng.normal(0, 6.3, 2) * (1 - 0.3 * youth),
        ring_bone=ring_bone if rng.random() < looks.ring else None,
        sesamoid=bool(rng.random() < looks.sesamoid),
        youth=youth,
    )


def _factor(rng: np.random.Generator, sd: float, low: float, high: float) -> float:
    return float(np.clip(rng.normal(1.0, sd), low, high))
