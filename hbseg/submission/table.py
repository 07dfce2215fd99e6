"""Lines of a submission, as they are written."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hbseg.anatomy import BONES
from hbseg.errors import InvalidInput

HEADER = ("image_name", "class", "rle")
NATIVE_SIDE = 2048
"""Side of the task's images, in pixels."""


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


def by_name(paths: Iterable[str]) -> dict[str, str]:
    """Return the path of each picture by its name, the only thing that a submission tells of it.

    Raises:
        InvalidInput: two pictures have one name; the message has both paths.
    """
    found: dict[str, str] = {}
    for path in paths:
        name = path.rpartition("/")[2]
        if name in found:
            raise InvalidInput(
                f"two pictures are called {name}: {found[name]} and {path}",
                "the CSV names pictures without folder: rename one, or take one folder at a time",
            )
        found[name] = path
    return found


def read(path: Path | str) -> Iterator[tuple[str, str, str]]:
    """Yield image name, bone and last field of each row of a table that is known to be valid."""
    csv.field_size_limit(1 << 30)
    with open(path, newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        next(lines, None)
        for fields in lines:
            name, bone, code = fields
            yield name, bone, code


def _field(text: str) -> str:
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
