"""Images that a human looks at first: masks that no hand has, or that the network is unsure of.

All rules follow from the masks and from anatomy, hold for both hands and any rotation, and measure
in units of the hand itself: its bone size is the square root of the median area of its masks.
docs/evaluation.md has the limits and what they were chosen on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import BONES, DISTAL_PHALANGES, METACARPALS, RAYS
from hbseg.ml.bone_shape import BoneShape, bone_shape
from hbseg.ml.confidence import MIDDLE
from hbseg.rle import Runs, Segments
from hbseg.runs.results import Flag, FlaggedImage, FlagKind
from hbseg.submission import Image

SPLIT_LIMIT: Final = 0.2
"""Largest area of the second part of a bone, as a share of the largest part."""
ORDER_LIMIT: Final = 0.25
"""Farthest that a bone may be on the wrong side of its neighbour's centre, in bone sizes."""
FAR_LIMIT: Final = 0.8
"""Widest gap between the outlines of neighbours, in bone sizes."""
CONFIDENCE_LIMIT: Final = 0.65
"""Lowest confidence of a bone whose mask is not empty."""

NEIGHBOURS: Final = (
    *(pair for bones in RAYS.values() for pair in pairwise(bones)),
    ("finger-3", "Trapezium"),
    ("finger-7", "Trapezoid"),
    ("finger-11", "Capitate"),
    ("finger-15", "Hamate"),
    ("finger-19", "Hamate"),
    ("Trapezium", "Scaphoid"),
    ("Trapezium", "Trapezoid"),
    ("Trapezoid", "Capitate"),
    ("Capitate", "Hamate"),
    ("Scaphoid", "Capitate"),
    ("Scaphoid", "Lunate"),
    ("Lunate", "Triquetrum"),
    ("Lunate", "Capitate"),
    ("Hamate", "Triquetrum"),
    ("Triquetrum", "Pisiform"),
    ("Scaphoid", "Radius"),
    ("Lunate", "Radius"),
    ("Radius", "Ulna"),
)
"""Bones that share a joint."""
LEVELS: Final = {
    "metacarpals": METACARPALS,
    "proximal phalanges": tuple(bones[-2] for bones in RAYS.values()),
    "middle phalanges": tuple(bones[1] for bones in RAYS.values() if len(bones) == 4),
    "distal phalanges": DISTAL_PHALANGES,
}
"""Bones that are in a row from the thumb to the little finger."""
SAMPLED: Final = 16
"""Rows of a mask whose ends and middle a gap is measured between."""
DECIMALS: Final = 4
"""Digits that a severity is rounded to: the same on every machine."""

Shapes = Mapping[str, BoneShape]


def flagged_image(
    image: Image,
    runs: Sequence[Runs],
    confidences: Sequence[float],
    second_parts: Sequence[float],
) -> list[FlaggedImage]:
    """Return the image with its flags, or nothing where it has none.

    Args:
        image: name and size.
        runs: of the 29 masks, in class order.
        confidences: of the 29 bones (`hbseg.ml.confidence`).
        second_parts: of the 29 masks (`hbseg.ml.pieces`), before any part was left out.
    """
    flags = flags_of(runs, confidences, second_parts, image.height, image.width)
    return [FlaggedImage(image=image.name, flags=flags)] if flags else []


def in_order(images: Iterable[FlaggedImage]) -> tuple[FlaggedImage, ...]:
    """Return images with the most severe first; of equal ones those with most flags, by name."""
    return tuple(sorted(images, key=lambda one: (-one.severity, -len(one.flags), one.image)))


def flags_of(
    runs: Sequence[Runs],
    confidences: Sequence[float],
    second_parts: Sequence[float],
    height: int,
    width: int,
) -> tuple[Flag, ...]:
    """Return the flags of an image, the most severe first; arguments as `flagged_image`."""
    found = zip(BONES, (bone_shape(of_bone, height, width) for of_bone in runs), strict=True)
    shapes = {bone: shape for bone, shape in found if shape is not None}
    flags = [*_missing(shapes), *_unsure(shapes, confidences), *_split(second_parts)]
    if shapes:
        size = bone_size(shapes)
        flags += [*_disordered(shapes, size), *_far(shapes, size)]
    return tuple(sorted(flags, key=lambda flag: -flag.severity))


def bone_size(shapes: Shapes) -> float:
    """Return the unit of length of a hand, in pixels: the root of the median area of its masks."""
    return math.sqrt(float(np.median([shape.area for shape in shapes.values()])))


def _missing(shapes: Shapes) -> Iterator[Flag]:
    for bone in BONES:
        if bone not in shapes:
            text = f"{bone} has an empty mask"
            yield Flag(kind=FlagKind.MISSING, bone=bone, severity=1.0, text=text)


def _unsure(shapes: Shapes, confidences: Sequence[float]) -> Iterator[Flag]:
    for bone, confidence in zip(BONES, confidences, strict=True):
        if bone in shapes and confidence < CONFIDENCE_LIMIT:
            figure = "mean" if confidence > MIDDLE else "largest"
            text = f"the {figure} probability of {bone} is {confidence:.2f}"
            severity = _severity(1 - confidence, 1 - CONFIDENCE_LIMIT)
            yield Flag(kind=FlagKind.LOW_CONFIDENCE, bone=bone, severity=severity, text=text)


def _split(second_parts: Sequence[float]) -> Iterator[Flag]:
    for bone, share in zip(BONES, second_parts, strict=True):
        if share > SPLIT_LIMIT:
            text = f"{bone} is in two parts, the second has {share:.0%} of the area of the first"
            severity = _severity(share, SPLIT_LIMIT)
            yield Flag(kind=FlagKind.SPLIT, bone=bone, severity=severity, text=text)


def _disordered(shapes: Shapes, size: float) -> Iterator[Flag]:
    for places in ray_places(shapes, size).values():
        back = _farthest_back(list(places.values()))
        if back > ORDER_LIMIT:
            bone = _out_of_order(places)
            text = f"{bone} is out of the order of fingers by {back:.1f} bone sizes"
            severity = _severity(back, ORDER_LIMIT)
            yield Flag(kind=FlagKind.RAY_ORDER, bone=bone, severity=severity, text=text)


def ray_places(shapes: Shapes, size: float) -> dict[str, dict[str, float]]:
    """Return, for each level, the place of each bone across the hand, in bone sizes.

    Places are along the direction in which the number of the ray rises, fitted to the centres of
    all finger bones by least squares, with an offset of its own for each level.
    """
    rows = {name: _row(bones, shapes) for name, bones in LEVELS.items()}
    direction = sum((_rise(row) for row in rows.values()), start=np.zeros(2))
    direction /= max(float(np.hypot(*direction)), 1e-9)
    return {
        name: {bone: float(centre @ direction) / size for bone, centre in row}
        for name, row in rows.items()
    }


def _farthest_back(places: Sequence[float]) -> float:
    """Return the largest step back from a bone to the next one."""
    return max((first - second for first, second in pairwise(places)), default=0.0)


def _out_of_order(places: Mapping[str, float]) -> str:
    """Return the first bone without which the others are in order; else the first after a step."""
    for bone in places:
        if _farthest_back([at for other, at in places.items() if other != bone]) <= ORDER_LIMIT:
            return bone
    steps = pairwise(places.items())
    return next(bone for (_, first), (bone, second) in steps if first - second > ORDER_LIMIT)


def _row(bones: Sequence[str], shapes: Shapes) -> list[tuple[str, NDArray[np.float64]]]:
    return [(bone, shapes[bone].centre) for bone in bones if bone in shapes]


def _rise(row: Sequence[tuple[str, NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Return the covariance of place and ray of a level's bones, [2]."""
    if len(row) < 2:
        return np.zeros(2)
    rays = np.array([_ray(bone) for bone, _ in row], dtype=np.float64)
    places = np.stack([centre for _, centre in row])
    rise: NDArray[np.float64] = (rays - rays.mean()) @ (places - places.mean(axis=0))
    return rise


def _ray(bone: str) -> int:
    return next(number for number, bones in enumerate(RAYS.values()) if bone in bones)


def _far(shapes: Shapes, size: float) -> Iterator[Flag]:
    """Yield each gap beyond the limit that has to be crossed to reach all bones (Kruskal).

    Where a bone between is missing there is no gap: that bone is flagged itself.
    """
    group = {bone: {bone} for bone in shapes}
    for gap, pair in sorted((gap, pair) for pair, gap in neighbour_gaps(shapes, size).items()):
        smaller, larger = sorted((group[bone] for bone in pair), key=len)
        if smaller is larger:
            continue
        if gap > FAR_LIMIT:
            bone, neighbour = pair if pair[0] in smaller else pair[::-1]
            text = f"{bone} is {gap:.1f} bone sizes from {neighbour}"
            severity = _severity(gap, FAR_LIMIT)
            yield Flag(kind=FlagKind.FAR, bone=bone, severity=severity, text=text)
        larger |= smaller
        group |= dict.fromkeys(smaller, larger)


def neighbour_gaps(shapes: Shapes, size: float) -> dict[tuple[str, str], float]:
    """Return the smallest distance between the masks of neighbours, in bone sizes.

    Between the ends and middles of some of their rows: exact to a few per cent of a bone's length.
    """
    pairs = [pair for pair in NEIGHBOURS if pair[0] in shapes and pair[1] in shapes]
    if not pairs:
        return {}
    points = {bone: _sampled(shape.segments) for bone, shape in shapes.items()}
    first_nkc, second_nkc = (np.stack([points[pair[side]] for pair in pairs]) for side in (0, 1))
    squares = np.square(first_nkc[:, :, None] - second_nkc[:, None]).sum(axis=3)
    gaps = np.sqrt(squares.min(axis=(1, 2))) / size
    return dict(zip(pairs, gaps.tolist(), strict=True))


def _sampled(of: Segments) -> NDArray[np.float64]:
    """Return points of a mask, [3 x SAMPLED, 2] of x, y; its first and last row are among them."""
    chosen = np.linspace(0, len(of.row) - 1, SAMPLED).round().astype(np.int64)
    left, right = of.left[chosen], of.right[chosen] - 1
    columns = np.concatenate([left, (left + right) / 2, right])
    return np.stack([columns, np.tile(of.row[chosen], 3)], axis=1)


def _severity(figure: float, limit: float) -> float:
    """Return the share of a figure that is beyond its limit, 0 to 1."""
    return round(1 - limit / figure, DECIMALS)
