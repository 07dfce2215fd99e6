"""COCO JSON: one annotation for each mask that is not empty, as uncompressed run lengths.

COCO counts along columns, zeros first (source: pycocotools' mask API). Read are run lengths of both
kinds, lists and compressed texts, and polygons; several annotations of a bone are a union.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from hbseg.anatomy import BONES, INDEX
from hbseg.data import annotation
from hbseg.data.formats import MAX_PIXELS
from hbseg.errors import InvalidInput
from hbseg.exchange.source import NO_RUNS, Loose, bone_of, load, outline, turned, union
from hbseg.rle import Runs, area, patch_of
from hbseg.submission import Image, by_name
from hbseg.submission.scanning import Hand

Side = Annotated[int, Field(ge=1, le=MAX_PIXELS)]
Count = Annotated[int, Field(ge=0, le=MAX_PIXELS)]


class _Picture(Loose):
    id: int
    file_name: str
    height: Side
    width: Side


class _Category(Loose):
    id: int
    name: str


class _RunLengths(Loose):
    size: tuple[Side, Side]
    counts: str | list[Count]


class _Annotation(Loose):
    image_id: int
    category_id: int
    segmentation: _RunLengths | list[list[float]]


class _Coco(Loose):
    images: list[_Picture]
    categories: list[_Category]
    annotations: list[_Annotation]


class CocoFile:
    """A COCO JSON file as a `Source`; it is read whole."""

    def __init__(self, path: Path) -> None:
        """Raise NotFoundError, InvalidInput: not such a file, or two images of one name."""
        self._path = path
        coco = load(_Coco, path)
        self._pictures = self._by_name(coco.images)
        known = {picture.id for picture in coco.images}
        bones = {item.id: bone_of(item.name, f"{path}: categories") for item in coco.categories}
        self._found: dict[int, list[tuple[str, _Annotation, str]]] = defaultdict(list)
        for number, item in enumerate(coco.annotations):
            place = f"{path}: annotations.{number}"
            if item.image_id not in known or item.category_id not in bones:
                raise InvalidInput(
                    f"{place}: image {item.image_id} or category {item.category_id} is not listed"
                )
            self._found[item.image_id].append((bones[item.category_id], item, place))

    @property
    def names(self) -> Sequence[str]:
        """Names of the images in the order of the file."""
        return list(self._pictures)

    def hand(self, name: str) -> Hand:
        """See `Source`."""
        picture = self._pictures[name]
        masks: dict[str, list[Runs]] = defaultdict(list)
        for bone, item, place in self._found[picture.id]:
            masks[bone].append(_runs(item.segmentation, picture, bone, place))
        image = Image(name, picture.height, picture.width)
        return Hand(image, [union(masks[bone]) for bone in BONES])

    def _by_name(self, pictures: Sequence[_Picture]) -> dict[str, _Picture]:
        paths = [picture.file_name.replace("\\", "/") for picture in pictures]
        if len({picture.id for picture in pictures}) < len(pictures):
            raise InvalidInput(f"{self._path}: two images have one id")
        for picture in pictures:
            if picture.height * picture.width > MAX_PIXELS:
                raise InvalidInput(f"{self._path}: {picture.file_name[:80]!r} is too large")
        return dict(zip(by_name(paths), pictures, strict=True))


def text(hands: Iterable[Hand]) -> Iterator[str]:
    """Yield the text of a file, hand by hand; only the list of images is kept."""
    pictures, number = [], 0
    categories = [{"id": i + 1, "name": bone, "supercategory": "bone"} for bone, i in INDEX.items()]
    yield f'{{"categories": {json.dumps(categories)},\n"annotations": ['
    for picture_id, hand in enumerate(hands, start=1):
        image = hand.image
        pictures.append(_picture(picture_id, image))
        for category, runs in enumerate(hand.runs, start=1):
            if len(runs):
                ids = {"id": number + 1, "image_id": picture_id, "category_id": category}
                line = json.dumps({**ids, **_annotation(runs, image)})
                yield f"{',' if number else ''}\n{line}"
                number += 1
    yield f'\n],\n"images": {json.dumps(pictures)}}}\n'


def _picture(picture_id: int, image: Image) -> dict[str, Any]:
    sizes = {"height": image.height, "width": image.width}
    return {"id": picture_id, "file_name": image.name, **sizes}


def _annotation(runs: Runs, image: Image) -> dict[str, Any]:
    patch = patch_of(runs, image.height, image.width)
    height, width = patch.mask.shape
    columns = turned(runs, image.height, image.width)
    return {
        "segmentation": {"size": [image.height, image.width], "counts": _counts(columns, image)},
        "area": area(runs),
        "bbox": [patch.left, patch.top, width, height],
        "iscrowd": 0,
    }


def _counts(columns: Runs, image: Image) -> list[int]:
    edges = np.column_stack((columns[:, 0], columns.sum(axis=1))).ravel()
    ends = np.concatenate(([0], edges, [image.height * image.width]))
    counts: list[int] = np.diff(ends).tolist()
    return counts[:-1] if counts[-1] == 0 else counts


def _runs(
    segmentation: _RunLengths | list[list[float]], picture: _Picture, bone: str, place: str
) -> Runs:
    size = (picture.height, picture.width)
    if isinstance(segmentation, _RunLengths):
        return _run_lengths(segmentation, size, place)
    polygons = {bone: [_polygon(flat, place) for flat in segmentation]}
    found = annotation.runs(polygons, size) if segmentation else []
    return found[INDEX[bone]] if found else NO_RUNS


def _polygon(flat: Sequence[float], place: str) -> annotation.Polygon:
    if len(flat) % 2:
        raise InvalidInput(f"{place}: a polygon has {len(flat)} numbers, expected x and y in turn")
    return outline(zip(flat[::2], flat[1::2], strict=True), place)


def _run_lengths(found: _RunLengths, size: tuple[int, int], place: str) -> Runs:
    height, width = size
    if found.size != size:
        raise InvalidInput(f"{place}: size is {list(found.size)}, its image has {list(size)}")
    counts = _decompressed(found.counts, place) if isinstance(found.counts, str) else found.counts
    if sum(counts) != height * width:
        raise InvalidInput(f"{place}: counts make {sum(counts)} pixels, expected {height * width}")
    ends = np.cumsum(np.array(counts, dtype=np.int64))
    lengths = np.array(counts[1::2], dtype=np.int64)
    columns = np.stack([ends[1::2] - lengths, lengths], axis=1)
    return turned(columns[lengths > 0], width, height)


def _decompressed(text: str, place: str) -> list[int]:
    """Return the counts of a compressed text (source: pycocotools' rleFrString).

    Each count is a number of 5 bits a character, least first, offset by 48, with bit 6 where more
    follow; from the fourth on it is the difference to the one before the previous.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise InvalidInput(f"{place}: counts are no compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (bits & 16) and 1 << shift
        value += counts[-2] if len(counts) > 2 else 0
        if not 0 <= value <= MAX_PIXELS:
            raise InvalidInput(f"{place}: count {value}, expected 0 to {MAX_PIXELS:,}")
        counts.append(value)
        value = shift = 0
    if shift:
        raise InvalidInput(f"{place}: counts are cut off")
    return counts
