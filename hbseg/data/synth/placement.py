"""The place of a hand in the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from hbseg.anatomy import CARPALS, FINGER_BONES
from hbseg.data.synth.frame import SIZE, Points, turned
from hbseg.data.synth.looks import Looks
from hbseg.data.synth.person import Person
from hbseg.data.synth.pose import Pose, sample_pose
from hbseg.data.synth.skeleton import Skeleton, build_skeleton

TOP_MARGIN: Final = 130.0
"""Least room above the fingertips in a plain picture, pixels."""

MARGIN: Final = 28.0
"""Least room between the bones of the hand and the picture's edges, pixels."""

FOREARM_SHOWN: Final = 320.0
"""Height below the capitate that stays in the picture, so that Radius and Ulna show; pixels of
the hand's frame."""

TILT_SD: Final = 2.5
REFRAMED_TILT_SD: Final = 7.0
"""Spread of the hand's tilt, degrees."""

REFRAMED_SIZE: Final = (0.6, 1.3)
"""Range of the mean hand's size in reframed pictures."""

REFRAMED_FOREARM: Final = (500.0, 1500.0)
"""Longest forearm below the capitate in reframed pictures, pixels of the hand's frame."""


WAVE_LENGTH: Final = 130.0
"""Typical length of the warp that makes every outline a little irregular, pixels per radian."""

WAVE_HEIGHT: Final = 2.2
"""Height of each of its waves, pixels of the hand's frame."""


@dataclass(frozen=True, kw_only=True)
class BonePlacement:
    """Place of the hand's frame in the picture: turn, size, shift and a faint warp."""

    scale: float
    """Picture pixels for one pixel of the hand's frame."""
    tilt: float
    """Clockwise turn, degrees."""
    centre: tuple[float, float]
    """Picture position of the capitate's centre."""
    waves: Points
    """[2, 3, 3] two displacements, each of three waves of (x frequency, y frequency, phase)."""

    def place(self, points: Points) -> Points:
        """Points [N, 2] of the hand's frame in the picture."""
        placed = turned(points, self.tilt) * self.scale + self.centre
        phase = placed @ self.waves[..., :2].swapaxes(1, 2) / WAVE_LENGTH
        shift = np.sin(phase + self.waves[:, None, :, 2]).sum(-1) * WAVE_HEIGHT * self.scale
        result: Points = placed + shift.T
        return result

    def placed(self, skeleton: Skeleton) -> Skeleton:
        """The skeleton in the picture."""
        return Skeleton(
            {bone: self.place(outline) for bone, outline in skeleton.outlines.items()},
            {bone: self.place(axis) for bone, axis in skeleton.axes.items()},
        )


@dataclass(frozen=True, kw_only=True)
class PosedHand:
    """A right hand as it lies on the plate; all positions in picture pixels."""

    person: Person
    pose: Pose
    placement: BonePlacement
    skeleton: Skeleton
    """The skeleton in the picture."""

    @property
    def scale(self) -> float:
        """Picture pixels for one pixel of the hand's frame."""
        return self.placement.scale

    @property
    def axes(self) -> dict[str, Points]:
        """Base and head [2, 2] of each finger bone."""
        return self.skeleton.axes

    @property
    def outlines(self) -> dict[str, Points]:
        """Outline [N, 2] of each bone, in class order."""
        return self.skeleton.outlines


def pose_hand(
    person: Person, deviated_probability: float, looks: Looks, rng: np.random.Generator
) -> PosedHand:
    """A person's right hand in a random pose at a random place."""
    pose = sample_pose(rng, deviated_probability, looks)
    skeleton = build_skeleton(person, pose, rng)
    placement = sample_placement(skeleton, person, pose, looks, rng)
    return PosedHand(
        person=person, pose=pose, placement=placement, skeleton=placement.placed(skeleton)
    )


def sample_placement(
    skeleton: Skeleton, person: Person, pose: Pose, looks: Looks, rng: np.random.Generator
) -> BonePlacement:
    """A place in the picture: all bones of the hand inside the frame, the forearm leaving it."""
    reframed = bool(rng.random() < looks.reframed)
    tilt = float(rng.normal(0, REFRAMED_TILT_SD if reframed else TILT_SD))
    low, high = _extent(skeleton, tilt)
    largest = float(((SIZE - 2 * MARGIN) / (high - low)).min())
    wanted = float(rng.uniform(*REFRAMED_SIZE)) if reframed else person.scale
    scale = min(wanted, largest)
    nearest, farthest = MARGIN - low * scale, SIZE - MARGIN - high * scale
    if reframed:
        nearest[1] = max(nearest[1], SIZE - float(rng.uniform(*REFRAMED_FOREARM)) * scale)
        centre = rng.uniform(nearest, np.maximum(nearest, farthest))
    else:
        centre = _plain_centre(pose, scale, TOP_MARGIN - float(low[1]) * scale, rng)
        centre = np.clip(centre, nearest, farthest)
    x, y = centre.tolist()
    return BonePlacement(scale=scale, tilt=tilt, centre=(x, y), waves=_waves(rng))


def _extent(skeleton: Skeleton, tilt: float) -> tuple[Points, Points]:
    """Least and largest x, y [2] of what must be in the picture, around the capitate."""
    hand = np.vstack([skeleton.outlines[bone] for bone in (*FINGER_BONES, *CARPALS)])
    hand = turned(hand, tilt)
    return hand.min(0), np.maximum(hand.max(0), (0, FOREARM_SHOWN))


def _plain_centre(pose: Pose, scale: float, highest: float, rng: np.random.Generator) -> Points:
    """The hand about the middle; a deviated one is moved so that its fingers stay in the frame."""
    x = SIZE / 2 + float(rng.normal(0, 55)) - (120 * scale if pose.deviated else 0)
    y = float(np.clip(rng.uniform(1310, 1480), highest, 1520))
    return np.array([x, y])


def _waves(rng: np.random.Generator) -> Points:
    frequencies = rng.normal(0, 1, (2, 3, 2))
    return np.concatenate([frequencies, rng.uniform(0, 2 * np.pi, (2, 3, 1))], -1)
