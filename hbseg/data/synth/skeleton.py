"""The skeleton of one right hand in its own frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from hbseg.anatomy import CARPALS, FINGER_BONES, FOREARM, RAYS
from hbseg.data.synth.atlas import (
    CARPAL_OUTLINE,
    CARPAL_SHIFT,
    CARPAL_SIZE,
    DISTAL_ROW,
    FOREARM_OUTLINE,
    MC3_LENGTH,
    METACARPAL_BASE,
    WRIST_PIVOT,
)
from hbseg.data.synth.frame import Points, direction, turned
from hbseg.data.synth.outlines import long_bone, smooth
from hbseg.data.synth.person import Person
from hbseg.data.synth.pose import Pose

LONG_BONE_WIDTH: Final = 0.985
"""Factor on the atlas widths that gives the task's areas."""

PROXIMAL_ROW_TURN: Final = 0.62
"""Share of the wrist's angle that the proximal row of carpals follows."""

PROXIMAL_ROW_SLIDE: Final = -0.45
"""Pixels that the proximal row slides to the radial side for each degree of ulnar deviation."""

CARPUS_SHORTENING: Final = 0.10
"""How much shorter and narrower the carpus of an adolescent is (at youth 1)."""

FOREARM_POINT_SD: Final = 2.2
"""Spread of the forearm's control points, pixels."""


@dataclass(frozen=True)
class Skeleton:
    """Outlines of all 29 bones and the axis (base, head) of each finger bone."""

    outlines: dict[str, Points]
    axes: dict[str, Points]


def build_skeleton(person: Person, pose: Pose, rng: np.random.Generator) -> Skeleton:
    """The skeleton in the hand's frame; bones in class order."""
    fingers, axes = _fingers(person, pose, rng)
    outlines = fingers | _carpals(person, pose) | _forearm(person, rng)
    order = (*FINGER_BONES, *CARPALS, *FOREARM)
    return Skeleton({bone: outlines[bone] for bone in order}, axes)


def _carpus_scale(person: Person) -> float:
    return 1 - CARPUS_SHORTENING * person.youth


def _carpals(person: Person, pose: Pose) -> dict[str, Points]:
    """The distal row turns with the hand; the proximal row turns less and slides."""
    carpals: dict[str, Points] = {}
    for bone in CARPALS:
        control = np.array(CARPAL_OUTLINE[bone], float)
        centre = control.mean(0)
        control = centre + (control - centre) * person.carpal_size[bone] * CARPAL_SIZE[bone]
        control = control + person.carpal_shape[bone] + CARPAL_SHIFT.get(bone, (0, 0))
        if bone == "Pisiform":
            control = control + person.pisiform_offset
        shape = smooth(control * _carpus_scale(person), 8)
        if bone in DISTAL_ROW:
            carpals[bone] = turned(shape, pose.wrist, WRIST_PIVOT)
        else:
            shape = turned(shape, PROXIMAL_ROW_TURN * pose.wrist, WRIST_PIVOT)
            carpals[bone] = shape + np.array([PROXIMAL_ROW_SLIDE * pose.wrist, 0.0])
    return carpals


def _fingers(
    person: Person, pose: Pose, rng: np.random.Generator
) -> tuple[dict[str, Points], dict[str, Points]]:
    """Outlines and axes, each ray built from its metacarpal to the tip."""
    outlines: dict[str, Points] = {}
    axes: dict[str, Points] = {}
    width = person.width * LONG_BONE_WIDTH
    for ray, bones in RAYS.items():
        base = np.array(METACARPAL_BASE[ray], float) * _carpus_scale(person)
        base = turned(base, pose.wrist, WRIST_PIVOT)
        for bone in reversed(bones):
            length = person.length[bone] * MC3_LENGTH
            angle = pose.bone[bone] + pose.wrist
            local = long_bone(bone, length, width, pose.bow[bone], rng)
            outlines[bone] = turned(local, angle) + base
            head = base + direction(angle) * length
            axes[bone] = np.stack([base, head])
            base = head + direction(angle) * pose.gap[bone]
    return outlines, axes


def _forearm(person: Person, rng: np.random.Generator) -> dict[str, Points]:
    radius = np.array(FOREARM_OUTLINE["Radius"], float)
    ulna = np.array(FOREARM_OUTLINE["Ulna"], float)
    ulna[:, 1] += person.ulnar_variance * np.clip((700 - ulna[:, 1]) / 300, 0, 1)
    shrink = np.array([_carpus_scale(person), 1.0])
    rise = (0.0, -CARPUS_SHORTENING * person.youth * WRIST_PIVOT[1])
    return {
        bone: smooth((control + rng.normal(0, FOREARM_POINT_SD, control.shape)) * shrink + rise, 8)
        for bone, control in zip(FOREARM, (radius, ulna), strict=True)
    }
