"""labelme JSON: `FOLDER/<image name without its ending>.json`, one a picture.

A mask is written as the outlines of its parts where these draw exactly the same pixels, and as a
shape of the type `mask` (a box with a PNG) where they do not: holes, parts of one or two pixels. So
the way there and back changes nothing. Read are both types; several shapes of a bone are a union,
points are rounded to whole pixels.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Final

import cv2
import numpy as np
from pydantic import Field

from hbseg.anatomy import BONES, INDEX
from hbseg.data import annotation
from hbseg.data.formats import MAX_PIXELS
from hbseg.data.pictures import encode_png, read_gray
from hbseg.errors import InvalidInput
from hbseg.exchange.names import checked_name
from hbseg.exchange.source import Loose, bone_of, entries, load, outline, union
from hbseg.rle import Patch, Runs, patch_of, runs_in_box
from hbseg.submission import Image
from hbseg.submission.scanning import Hand

VERSION: Final = "5.5.0"
"""Version that the files name; labelme 6.3.1 reads them."""
Side = Annotated[int, Field(ge=1, le=MAX_PIXELS)]
PathOf = Callable[[str], str]
"""Name of an image to the path that labelme opens it by, relative to the JSON."""


class _Shape(Loose):
    label: str
    points: list[tuple[float, float]]
    shape_type: str = "polygon"
    mask: str | None = None


class _Picture(Loose):
    image_path: str = Field(alias="imagePath")
    height: Side = Field(alias="imageHeight")
    width: Side = Field(alias="imageWidth")


class _Labelled(_Picture):
    shapes: list[_Shape]


class LabelmeFolder:
    """A folder of labelme files as a `Source`."""

    def __init__(self, folder: Path) -> None:
        """Raise NotFoundError, InvalidInput: no folder, no such files, two images of one name."""
        self._files: dict[str, Path] = {}
        for path in entries(folder):
            if path.suffix == ".json":
                name = _name(load(_Picture, path))
                if name in self._files:
                    raise InvalidInput(f"{self._files[name]} and {path} are both of image {name}")
                self._files[name] = path
        if not self._files:
            raise InvalidInput(f"{folder}: no labelme files", "expected IMAGE.json and so on")

    @property
    def names(self) -> Sequence[str]:
        """Names of the images, sorted."""
        return sorted(self._files)

    def hand(self, name: str) -> Hand:
        """See `Source`."""
        path = self._files[name]
        found = load(_Labelled, path)
        size = (found.height, found.width)
        if found.height * found.width > MAX_PIXELS:
            raise InvalidInput(f"{path}: {found.width} x {found.height} pixels are too many")
        masks: dict[str, list[Runs]] = defaultdict(list)
        for number, shape in enumerate(found.shapes):
            place = f"{path}: shapes.{number}"
            bone = bone_of(shape.label, place)
            masks[bone].append(_runs(shape, bone, size, place))
        return Hand(Image(name, *size), [union(masks[bone]) for bone in BONES])


def write(hands: Iterable[Hand], folder: Path, path_of: PathOf = str) -> None:
    """Write hands into a folder.

    Raises:
        InvalidInput: an image's name is no file name, or two names differ in their ending alone.
    """
    for hand in hands:
        name = checked_name(hand.image.name)
        file = folder / f"{Path(name).stem}.json"
        if file.exists():
            raise InvalidInput(
                f"two images would be {file.name}, one of them {name}", "rename one of them"
            )
        file.write_text(json.dumps(_document(hand, path_of(name)), indent=1), encoding="utf-8")


def _document(hand: Hand, path: str) -> dict[str, Any]:
    size = (hand.image.height, hand.image.width)
    shapes = [
        shape
        for bone, runs in zip(BONES, hand.runs, strict=True)
        if len(runs)
        for shape in _shapes(bone, patch_of(runs, *size), size)
    ]
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": path,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def _shapes(bone: str, patch: Patch, size: tuple[int, int]) -> list[Mapping[str, Any]]:
    """Return the outlines of a mask, or the mask itself where outlines would change it."""
    found, _ = cv2.findContours(patch.mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corner = np.array([patch.left, patch.top], dtype=np.int32)
    outlines = [contour.reshape(-1, 2).astype(np.int32) + corner for contour in found]
    if min(map(len, outlines)) >= 3:
        drawn = annotation.bone_masks({bone: outlines}, size)[bone].crop
        if drawn.shape == patch.mask.shape and np.array_equal(drawn, patch.mask):
            return [_shape(bone, "polygon", points.tolist(), None) for points in outlines]
    height, width = patch.mask.shape
    last = [patch.left + width - 1, patch.top + height - 1]
    code = base64.b64encode(encode_png(patch.mask)).decode()
    return [_shape(bone, "mask", [corner.tolist(), last], code)]


def _shape(bone: str, kind: str, points: list[list[int]], mask: str | None) -> dict[str, Any]:
    return {
        "label": bone,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": mask,
    }


def _name(picture: _Picture) -> str:
    return PureWindowsPath(picture.image_path).name  # splits at both kinds of slashes


def _runs(shape: _Shape, bone: str, size: tuple[int, int], place: str) -> Runs:
    if shape.shape_type == "polygon":
        return annotation.runs({bone: [outline(shape.points, place)]}, size)[INDEX[bone]]
    if shape.shape_type != "mask" or shape.mask is None:
        raise InvalidInput(
            f"{place}: shape_type {shape.shape_type[:40]!r}, expected polygon or mask"
        )
    return _placed(shape.mask, shape.points, size, place)


def _placed(
    text: str, points: Sequence[Sequence[float]], size: tuple[int, int], place: str
) -> Runs:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{place}: the mask is not in base64") from None
    crop = read_gray(data, source=place) > 0
    height, width = crop.shape
    left, top = (round(value) for value in points[0]) if points else (-1, -1)
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
        raise InvalidInput(
            f"{place}: a mask of {width} x {height} pixels at {left}, {top} leaves the picture"
        )
    return runs_in_box(crop, left, top, size[1])
