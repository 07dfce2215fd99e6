"""One synthetic hand: from person and pose to picture and polygons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import CARPALS, FINGER_BONES, FOREARM
from hbseg.data.synth import artefacts, bone_tissue, detector, field, soft_tissue, truth
from hbseg.data.synth.artefacts import Side
from hbseg.data.synth.frame import SIZE, Points
from hbseg.data.synth.looks import TASK_LOOKS, Looks
from hbseg.data.synth.person import sample_person
from hbseg.data.synth.placement import FOREARM_SHOWN, PosedHand, pose_hand

# Streams of random numbers of a hand, so that a new draw in one part changes no other part.
_SKELETON: Final = 1
_FLESH: Final = 2
_BONE: Final = 3
_DETECTOR: Final = 4
_PLATE: Final = 5
_ANNOTATOR: Final = 6


@dataclass(frozen=True)
class SyntheticHand:
    """A radiograph and its truth."""

    image: NDArray[np.uint8]
    """[2048, 2048] grey values."""
    polygons: dict[str, NDArray[np.int32]]
    """[N, 2] x, y of each bone, in class order, inside the frame; the mask of a bone is what
    cv2.fillPoly draws from them, edge pixels included."""


def synthetic_hand(
    seed: int,
    person: int,
    side: Side,
    *,
    deviated_probability: float,
    looks: Looks = TASK_LOOKS,
) -> SyntheticHand:
    """The right or left hand of a person of a seed; the same bytes each time.

    `deviated_probability` (0 to 1) is that of a wrist bent to the ulnar side.
    """
    owner = sample_person(np.random.default_rng([seed, person]), looks)

    def stream(part: int) -> np.random.Generator:
        return np.random.default_rng([seed, person, 1 + (side == "L"), part])

    hand = pose_hand(owner, deviated_probability, looks, stream(_SKELETON))
    body = soft_tissue.silhouette(hand)
    attenuation = soft_tissue.attenuation(body, hand, stream(_FLESH))
    bone_tissue.add_bones(attenuation, hand, bone_tissue.trabeculae(seed), stream(_BONE))
    bone_tissue.add_bright_lines(attenuation, hand)
    artefacts.add_ring(attenuation, hand)
    picture = detector.picture(attenuation, looks, stream(_DETECTOR))

    outlines, shown = hand.outlines, _must_show(hand)
    if side == "L":  # the model knows right hands only
        picture, body = picture[:, ::-1].copy(), body[:, ::-1].copy()
        outlines = {bone: _mirrored(outline) for bone, outline in outlines.items()}
        shown = _mirrored(shown)

    rng = stream(_PLATE)
    artefacts.add_plate_artefacts(picture, body, side, looks, rng)
    fields = field.sample_fields(shown, looks, rng)
    for exposed in fields:
        picture = exposed.cover(picture)
    polygons = truth.annotate(outlines, field.visible(fields), stream(_ANNOTATOR))
    return SyntheticHand(np.clip(picture, 0, 255).astype(np.uint8), polygons)


def _must_show(hand: PosedHand) -> Points:
    """Points that no border may hide: all of the hand, and the upper ends of Radius and Ulna."""
    bones = [hand.outlines[bone] for bone in (*FINGER_BONES, *CARPALS)]
    forearm = np.vstack([hand.outlines[bone] for bone in FOREARM])
    x, y = hand.placement.centre
    lowest = y + FOREARM_SHOWN * hand.scale
    return np.vstack([*bones, forearm[forearm[:, 1] < lowest], [[x, lowest]]])


def _mirrored(points: Points) -> Points:
    return np.stack([SIZE - 1 - points[:, 0], points[:, 1]], 1)
