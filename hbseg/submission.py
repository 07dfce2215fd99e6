"""The submission: a CSV of run-length codes, one row for each image and bone.

Header `image_name,class,rle`; images in path order, the 29 bones in class order; `image_name` is
the file's name without its folder; an empty mask is an empty field.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hbseg import rle
from hbseg.anatomy import BONES

HEADER = ("image_name", "class", "rle")
NATIVE_SIDE = 2048
"""Side of the task's images, in pixels."""
MAX_PROBLEMS = 20
"""Problems that are reported before the reading stops."""


@dataclass(frozen=True)
class Image:
    """An image that a submission must cover, in the order of `path`."""

    path: str
    """Path in the set, e.g. `test/DCM/ID040/image1661319116107.png`."""
    height: int = NATIVE_SIDE
    width: int = NATIVE_SIDE

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]


def rows(image: Image, codes: Sequence[str]) -> str:
    """Return the 29 lines of one image, each with its line end."""
    name = _field(image.name)
    return "".join(f"{name},{bone},{code}\n" for bone, code in zip(BONES, codes, strict=True))


def header() -> str:
    """Return the first line."""
    return ",".join(HEADER) + "\n"


def validate(path: Path | str, images: Iterable[Image | str]) -> list[str]:
    """Return what is wrong with the submission at `path`, first row first; empty: it is valid.

    `images` are the expected ones, in any order; a text stands for an image of 2048 x 2048.
    Reads row by row: memory does not grow with the file.
    """
    expected = sorted((_as_image(image) for image in images), key=lambda image: image.path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(_limited(_problems(file, expected)))
    except FileNotFoundError:
        return [f"{path}: no such file"]
    except UnicodeDecodeError:
        return [f"{path}: not UTF-8 text"]
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"]


def read(path: Path | str) -> Iterator[tuple[str, str, str]]:
    """Yield image name, bone and code of each row of a valid submission."""
    _raise_field_limit()
    with open(path, newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        next(lines, None)
        for fields in lines:
            name, bone, code = fields
            yield name, bone, code


def _problems(lines: Iterable[str], images: Sequence[Image]) -> Iterator[str]:
    _raise_field_limit()
    reader = csv.reader(lines, strict=True)
    try:
        first = next(reader, None)
        if first is None or tuple(first) != HEADER:
            yield f"row 1: header is {','.join(first or [])[:80]!r}, expected {','.join(HEADER)!r}"
            return
        wanted = ((image, bone) for image in images for bone in BONES)
        yield from _row_problems(reader, wanted, len(images) * len(BONES))
    except csv.Error as error:
        yield f"row {reader.line_num}: not readable as CSV: {error}"


def _row_problems(
    reader: Iterator[list[str]], wanted: Iterator[tuple[Image, str]], total: int
) -> Iterator[str]:
    number = 1
    for number, fields in enumerate(reader, start=2):
        image, bone = next(wanted, (None, ""))
        if image is None:
            yield f"row {number}: one too many, expected {total + 1} rows with the header"
            return
        if len(fields) != len(HEADER):
            yield f"row {number}: {len(fields)} fields, expected {len(HEADER)}"
            return
        if (fields[0], fields[1]) != (image.name, bone):
            yield (
                f"row {number}: {fields[0][:80]} {fields[1][:40]}, "
                f"expected {image.name} {bone} (a row is missing, or out of order)"
            )
            return
        try:
            rle.from_text(fields[2], image.height * image.width)
        except ValueError as error:
            yield f"row {number} ({image.name} {bone}): {error}"
    if number < total + 1:
        for image, bone in itertools.islice(wanted, 1):
            yield (
                f"row {number + 1}: missing, expected {image.name} {bone}; "
                f"the file has {number} rows of {total + 1}"
            )


def _limited(problems: Iterator[str]) -> Iterator[str]:
    for number, problem in enumerate(problems):
        if number == MAX_PROBLEMS:
            yield "more problems follow"
            return
        yield problem


def _as_image(image: Image | str) -> Image:
    return image if isinstance(image, Image) else Image(image)


def _field(text: str) -> str:
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _raise_field_limit() -> None:
    csv.field_size_limit(min(sys.maxsize, 1 << 30))
