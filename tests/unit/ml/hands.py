"""True masks of synthetic hands, posed but not exposed: a few milliseconds each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbseg.data import annotation
from hbseg.data.synth.looks import TASK_LOOKS, WIDE_LOOKS
from hbseg.data.synth.person import sample_person
from hbseg.data.synth.placement import pose_hand
from hbseg.data.synth.pose import Pose
from hbseg.rle import Runs

SIDE = 512
SCALE = SIDE / 2048

Outlines = dict[str, NDArray[np.float64]]
"""[N, 2] x, y of each bone, in a picture of SIDE x SIDE pixels."""


def posed(person: int, seed: int = 11) -> tuple[Outlines, Pose]:
    """A right hand; half of them have a bent wrist, half of them wide looks."""
    looks = WIDE_LOOKS if person % 2 else TASK_LOOKS
    owner = sample_person(np.random.default_rng([seed, person]), looks)
    hand = pose_hand(owner, 0.5, looks, np.random.default_rng([seed, person, 1]))
    limits = (0.0, 2047.0)
    return {b: np.clip(o, *limits) * SCALE for b, o in hand.outlines.items()}, hand.pose


def turned(outlines: Outlines, degrees: float) -> Outlines:
    """The hand turned around the picture's middle, and made smaller so that it stays in it."""
    angle = np.deg2rad(degrees)
    turn = 0.7 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (SIDE - 1) / 2
    return {bone: (outline - middle) @ turn.T + middle for bone, outline in outlines.items()}


def mirrored(outlines: Outlines) -> Outlines:
    """The other hand."""
    return {bone: [SIDE - 1, 0] + outline * [-1, 1] for bone, outline in outlines.items()}


def drawn(outlines: Outlines) -> list[Runs]:
    """The runs of the 29 masks."""
    polygons = {b: [np.round(outline).astype(np.int32)] for b, outline in outlines.items()}
    return annotation.runs(polygons, (SIDE, SIDE))
