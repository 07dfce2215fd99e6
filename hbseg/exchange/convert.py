"""Masks from one format to another, hand by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from hbseg.data.picture_folder import PictureFolder
from hbseg.errors import InvalidInput
from hbseg.exchange import coco, labelme, png_masks
from hbseg.exchange.names import checked_name
from hbseg.exchange.source import Source
from hbseg.rle import to_text
from hbseg.storage.files import new_folder, replacing
from hbseg.submission import header, rows
from hbseg.submission.expected import Expected
from hbseg.submission.scanning import Hand, read_hands

HINT: Final = "choose another --to"


class Format(StrEnum):
    """Formats of masks."""

    CSV = "csv"
    COCO = "coco"
    MASKS = "masks"
    LABELME = "labelme"


_SOURCES: Final[Mapping[Format, Callable[[Path], Source]]] = {
    Format.COCO: coco.CocoFile,
    Format.MASKS: png_masks.MaskFolder,
    Format.LABELME: labelme.LabelmeFolder,
}


def read(
    kind: Format, path: Path, expected: Expected, pictures: PictureFolder | None
) -> Iterator[Hand]:
    """Yield the hands of a file or folder of masks.

    A CSV has its own order. Other formats take that of the pictures, all of which they must cover,
    or else their own. `expected` is what a CSV may cover.

    Raises:
        InvalidInput: the masks cannot be read, or do not fit the pictures.
        NotFoundError, DeniedError: the file cannot be opened.
    """
    if kind is Format.CSV:
        yield from read_hands(path, expected)
        return
    source = _SOURCES[kind](path)
    names = source.names if pictures is None else _in_order(source, pictures, path)
    for name in names:
        hand = source.hand(checked_name(name))
        if pictures is not None:
            _check_size(hand, pictures, path)
        yield hand


def write(
    kind: Format, hands: Iterable[Hand], target: Path, pictures: PictureFolder | None = None
) -> None:
    """Write hands as a file, or as a new folder; nothing is left of it where a hand is wrong.

    Raises:
        ConflictError: the folder is not empty.
        DeniedError, DiskFullError: it cannot be written.
        InvalidInput: a hand cannot be read, or an image's name is no file name.
    """
    match kind:
        case Format.CSV:
            write_text(target, _csv_text(hands))
        case Format.COCO:
            write_text(target, coco.text(hands))
        case Format.MASKS:
            with new_folder(target, hint=HINT) as folder:
                png_masks.write(hands, folder)
        case Format.LABELME:
            with new_folder(target, hint=HINT) as folder:
                labelme.write(hands, folder, _path_from(target, pictures))


def write_text(target: Path, parts: Iterable[str]) -> None:
    """Write a text as it comes; the file appears whole or not at all.

    Raises:
        DeniedError, DiskFullError: it cannot be written.
    """
    with (
        replacing(target, hint=HINT) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        file.writelines(parts)


def _csv_text(hands: Iterable[Hand]) -> Iterator[str]:
    yield header()
    for hand in hands:
        yield rows(hand.image, [to_text(runs) for runs in hand.runs])


def _path_from(target: Path, pictures: PictureFolder | None) -> labelme.PathOf:
    """Return how a file in the folder `target` names a picture: labelme opens it so."""
    if pictures is None or "://" in pictures.url:
        return str
    return lambda name: os.path.relpath(Path(pictures.url, pictures.path(name)), target)


def _in_order(source: Source, pictures: PictureFolder, path: Path) -> list[str]:
    names = set(source.names)
    for name in source.names:
        pictures.path(name)  # refused where there is no such picture
    for name in pictures.paths:
        if name not in names:
            raise InvalidInput(
                f"{path}: no masks of {name}", "add them, or take the picture out of --images"
            )
    return list(pictures.paths)


def _check_size(hand: Hand, pictures: PictureFolder, path: Path) -> None:
    found, size = (hand.image.height, hand.image.width), pictures.size_of(hand.image.name)
    if found != size:
        raise InvalidInput(
            f"{path}: masks of {hand.image.name} are {found[1]} x {found[0]} pixels, "
            f"the picture is {size[1]} x {size[0]}"
        )
