"""Annotations: one polygon JSON a hand, and the exact masks that it stands for.

The file's format (source: the task's data description): `{"annotations": [{"label": "finger-1",
"points": [[x, y], ...], ...}], ...}`, in pixels of the picture. Only `annotations`, `label` and
`points` count: `metadata` states a wrong size and other tools leave the rest away. The order of
labels is free, polygons are not closed, a second polygon of a bone is a union with the first.
The truth is what `cv2.fillPoly` draws at native size, edge pixels included.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import BONES, INDEX, NUM_BONES
from hbseg.documents import nearest
from hbseg.errors import InvalidInput, NotFoundError
from hbseg.rle import Runs, runs_in_box

Polygon = NDArray[np.int32]
"""Points of one outline, [N, 2] of x, y in pixels; not closed."""

Polygons = dict[str, list[Polygon]]
"""Bone: its outlines, whose union is its mask; in class order, bones without any are left out."""

MAX_BYTES: Final = 32 << 20
"""Largest annotation file that is read, in bytes (a real one has about 100 kB)."""

FARTHEST: Final = 1_000_000
"""Largest coordinate to either side that is read, in pixels."""


@dataclass(frozen=True)
class Shape:
    """One entry of `annotations` as it stands in the file: any label, any number of points."""

    label: str
    points: Polygon


@dataclass(frozen=True)
class Annotation:
    """What an annotation file says; labels and shapes are not judged yet."""

    shapes: tuple[Shape, ...]
    filename: object = None
    metadata: object = None


def read(data: bytes, *, source: str) -> Polygons:
    """Return the polygons of an annotation file; `source` names it in errors.

    Raises:
        InvalidInput: not the format (see `parse`), an unknown label, fewer than 3 points.
    """
    found: Polygons = {}
    for number, shape in enumerate(parse(data, source=source).shapes):
        if shape.label not in INDEX:
            raise InvalidInput(f"{source}: annotation {number}: {unknown_label(shape.label)}")
        if len(shape.points) < 3:
            raise InvalidInput(
                f"{source}: annotation {number}: {shape.label} has {len(shape.points)} points, "
                "a polygon needs 3"
            )
        found.setdefault(shape.label, []).append(shape.points)
    return {bone: found[bone] for bone in BONES if bone in found}


def parse(data: bytes, *, source: str) -> Annotation:
    """Return what an annotation file says, whatever its labels and numbers of points are.

    Raises:
        InvalidInput: more than 32 MiB, not JSON, no list `annotations`, an entry without `label`
            or `points`, or a coordinate that is no whole number within +-1,000,000.
    """
    content = _json(data, source)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise InvalidInput(f"{source}: expected a JSON object with a list `annotations`")
    shapes = tuple(
        _shape(entry, f"{source}: annotation {number}")
        for number, entry in enumerate(content["annotations"])
    )
    return Annotation(shapes, content.get("filename"), content.get("metadata"))


def unknown_label(label: str) -> str:
    """Return a message that names the known label nearest to an unknown one."""
    expected = nearest(label, BONES, otherwise="expected finger-1 to Ulna")
    return f"unknown label {label[:40]!r}; {expected}"


def masks(json_path: str | os.PathLike[str], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the masks of an annotation file, bool [29, H, W] in class order, at native size.

    `shape` is the picture's (H, W) in pixels; nothing is scaled. Exactly what `cv2.fillPoly`
    draws; a bone without polygon has an empty mask.

    Raises:
        NotFoundError: there is no such file.
        InvalidInput: see `read`.
    """
    path = Path(json_path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFoundError(f"cannot read {path}: {error.strerror}") from None
    return full_masks(read(data, source=str(path)), shape)


def full_masks(polygons: Polygons, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the masks of polygons, bool [29, H, W] in class order."""
    full = np.zeros((NUM_BONES, *shape), dtype=np.bool_)
    for bone, mask in bone_masks(polygons, shape).items():
        height, width = mask.crop.shape
        full[INDEX[bone], mask.y0 : mask.y0 + height, mask.x0 : mask.x0 + width] = mask.crop
    return full


@dataclass(frozen=True)
class BoneMask:
    """The mask of one bone, only as far as its box reaches."""

    x0: int
    """Column of the crop's left edge in the picture."""
    y0: int
    """Row of the crop's upper edge in the picture."""
    crop: NDArray[np.bool_]
    """Mask inside the box, bool [h, w]."""


def bone_masks(polygons: Polygons, shape: tuple[int, int]) -> dict[str, BoneMask]:
    """Return the mask of each bone that reaches into a picture of `shape` (H, W) pixels.

    Equal to `cv2.fillPoly` on the whole picture, but drawn only in the box around the polygons.
    """
    drawn = ((bone, _drawn(outlines, shape)) for bone, outlines in polygons.items())
    return {bone: mask for bone, mask in drawn if mask is not None}


def runs(polygons: Polygons, shape: tuple[int, int]) -> list[Runs]:
    """Return the runs of all 29 masks in class order, for a picture of `shape` (H, W) pixels."""
    found = bone_masks(polygons, shape)
    empty = np.empty((0, 2), dtype=np.int64)
    return [crop_runs(found[bone], shape[1]) if bone in found else empty for bone in BONES]


def crop_runs(mask: BoneMask, width: int) -> Runs:
    """Return the runs of one bone in a picture `width` pixels wide."""
    return runs_in_box(mask.crop, mask.x0, mask.y0, width)


def _drawn(outlines: Sequence[Polygon], shape: tuple[int, int]) -> BoneMask | None:
    height, width = shape
    points = np.concatenate(outlines)
    x0, y0 = np.maximum(points.min(axis=0), 0).tolist()
    x1, y1 = np.minimum(points.max(axis=0) + 1, (width, height)).tolist()
    if x1 <= x0 or y1 <= y0:
        return None
    crop = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    for outline in outlines:  # one by one: together they would cut holes where they overlap
        cv2.fillPoly(crop, [outline - np.array([x0, y0], dtype=np.int32)], 1)
    return BoneMask(x0, y0, crop.view(np.bool_))


def _json(data: bytes, source: str) -> Any:
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{source}: {len(data):,} bytes, expected at most {MAX_BYTES:,}")
    try:
        return json.loads(data, parse_constant=_no_constant)
    except RecursionError:
        raise InvalidInput(f"{source}: not an annotation: it is nested too deep") from None
    except ValueError as error:  # JSON, UTF-8 and numbers of thousands of digits
        reason = " ".join(str(error).split())[:120]
        raise InvalidInput(f"{source}: not readable as JSON, or cut off: {reason}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _shape(entry: object, place: str) -> Shape:
    if not isinstance(entry, dict):
        raise InvalidInput(f"{place}: expected an object with label and points")
    label, points = entry.get("label"), entry.get("points")
    if not isinstance(label, str) or not label:
        raise InvalidInput(f"{place}: label is {label!r:.40}, expected a bone's name")
    if not isinstance(points, list):
        raise InvalidInput(f"{place}: points of {label[:40]!r} are no list of [x, y]")
    return Shape(label, _points(points, f"{place}: {label[:40]!r}"))


def _points(points: list[Any], place: str) -> Polygon:
    if not points:
        return np.empty((0, 2), dtype=np.int32)
    pairs = set(map(type, points)) == {list} and set(map(len, points)) == {2}
    if not pairs or not set(map(type, chain.from_iterable(points))) <= {int, float}:
        raise InvalidInput(f"{place}: points are no pairs of numbers [x, y]")
    try:
        numbers = np.array(points, dtype=np.float64)
    except OverflowError:
        numbers = np.array([[np.inf, np.inf]])
    whole = (np.abs(numbers) <= FARTHEST) & (np.floor(numbers) == numbers)
    if not whole.all():
        wrong = float(numbers[~whole][0])
        raise InvalidInput(
            f"{place}: coordinate {wrong:g}, expected a whole number of pixels "
            f"within +-{FARTHEST:,}"
        )
    return numbers.astype(np.int32)
