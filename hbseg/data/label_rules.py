"""Rules on the polygons of one hand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

import numpy as np

from hbseg.anatomy import BONES, INDEX
from hbseg.data.annotation import Polygon, Shape, bone_masks, crop_runs, unknown_label
from hbseg.data.evidence import Evidence
from hbseg.rle import area, overlap
from hbseg.submission import NATIVE_SIDE

SAME_OVERLAP: Final = 0.5
"""Share of the larger of two polygons inside the other above which a bone was drawn twice
(assumed)."""

KNOWN_METADATA: Final = (3060, NATIVE_SIDE)
"""Sides that `metadata` states: 3060 is the known wrong one."""


def annotation_missing(evidence: Evidence) -> Iterator[str]:
    """Yield where a training picture has no polygons."""
    if evidence.image.split == "train" and evidence.image.annotation is None:
        expected = evidence.image.path.replace("/DCM/", "/outputs_json/", 1)
        yield f"no annotation, expected {PurePosixPath(expected).with_suffix('.json')}"


def unreadable(evidence: Evidence) -> Iterator[str]:
    """Yield why the annotation cannot be read."""
    if evidence.annotation_fault is not None:
        yield f"{evidence.image.annotation}: {evidence.annotation_fault}"


def class_missing(evidence: Evidence) -> Iterator[str]:
    """Yield each bone that has no polygon."""
    if evidence.annotation is not None:
        there = {shape.label for shape in evidence.annotation.shapes}
        yield from (f"no polygon of {bone}" for bone in BONES if bone not in there)


def class_unknown(evidence: Evidence) -> Iterator[str]:
    """Yield each label that is no bone, with the nearest one that is."""
    labels = dict.fromkeys(shape.label for shape in _shapes(evidence))
    yield from (unknown_label(label) for label in labels if label not in INDEX)


def class_doubled(evidence: Evidence) -> Iterator[str]:
    """Yield each bone that was drawn twice, or whose label also stands at another place."""
    for bone, first, second in _neighbours(evidence):
        why = _no_second_part(first, second)
        if why:
            yield f"{bone} has two polygons, and {why}"


def second_polygon(evidence: Evidence) -> Iterator[str]:
    """Yield each bone in several parts, which are united."""
    for bone, first, second in _neighbours(evidence):
        if not _no_second_part(first, second):
            yield f"{bone} has a second polygon; its mask is their union"


def few_points(evidence: Evidence) -> Iterator[str]:
    """Yield each polygon of fewer than 3 points."""
    for shape in _shapes(evidence):
        if len(shape.points) < 3:
            yield f"{shape.label[:40]!r} has {len(shape.points)} points, a polygon needs 3"


def points_outside(evidence: Evidence) -> Iterator[str]:
    """Yield each bone with points outside the picture; its border itself (0 and 2048) is inside."""
    height, width = NATIVE_SIDE, NATIVE_SIDE
    if evidence.header is not None:
        height, width = evidence.header.height, evidence.header.width
    for shape in _shapes(evidence):
        outside = ((shape.points < 0) | (shape.points > (width, height))).any(axis=1)
        if outside.any():
            x, y = shape.points[outside][0].tolist()
            yield (
                f"{shape.label[:40]!r} has {int(outside.sum())} points outside "
                f"the {width} x {height} picture, first ({x}, {y})"
            )


def odd_metadata(evidence: Evidence) -> Iterator[str]:
    """Yield what the annotation states of another picture, but for the traps known to be harmless.

    Harmless: no metadata at all, 3060 x 3060, and a file name that ends in .jpg.
    """
    annotation, path = evidence.annotation, PurePosixPath(evidence.image.path)
    if annotation is None:
        return
    if isinstance(annotation.metadata, dict):
        sides = [annotation.metadata.get(name) for name in ("height", "width")]
        if sides != [None, None] and not any(sides == [side, side] for side in KNOWN_METADATA):
            yield f"metadata says {sides[1]!r:.20} x {sides[0]!r:.20} pixels"
    elif annotation.metadata is not None:
        yield f"metadata is {annotation.metadata!r:.40}, expected height and width"
    name = annotation.filename
    if name is not None and (not isinstance(name, str) or PurePosixPath(name).stem != path.stem):
        yield f"filename is {name!r:.80}, expected {path.stem} with any ending"


def _shapes(evidence: Evidence) -> tuple[Shape, ...]:
    return evidence.annotation.shapes if evidence.annotation is not None else ()


def _neighbours(evidence: Evidence) -> Iterator[tuple[str, Polygon, Polygon]]:
    """Yield, for each bone of several polygons, each one with the next."""
    outlines: dict[str, list[Polygon]] = {}
    for shape in _shapes(evidence):
        if shape.label in INDEX and len(shape.points) >= 3:
            outlines.setdefault(shape.label, []).append(shape.points)
    for bone, parts in outlines.items():
        yield from ((bone, first, second) for first, second in pairwise(parts))


def _no_second_part(first: Polygon, second: Polygon) -> str:
    """Return why two polygons are no parts of one bone (rule assumed), or an empty text."""
    gap = np.maximum(first.min(axis=0) - second.max(axis=0), second.min(axis=0) - first.max(axis=0))
    reach = max(np.ptp(first, axis=0).max(), np.ptp(second, axis=0).max())
    if gap.max() > reach:
        return f"they are {int(gap.max())} pixels apart"
    shape = (NATIVE_SIDE, NATIVE_SIDE)
    runs = [
        crop_runs(mask, NATIVE_SIDE)
        for points in (first, second)
        for mask in bone_masks({"": [points]}, shape).values()
    ]
    if len(runs) == 2 and overlap(*runs) > SAME_OVERLAP * max(map(area, runs)):
        return "they cover each other: it was drawn twice"
    return ""
