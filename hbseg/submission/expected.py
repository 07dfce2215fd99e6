"""Which images a submission must or may cover."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from hbseg.anatomy import BONES, NUM_BONES
from hbseg.submission.table import NATIVE_SIDE, Image, by_name

SizeOf = Callable[[str], tuple[int, int]]
"""Name of an image to its height and width in pixels.

Raises InvalidInput where the image is not known."""


class MisplacedError(Exception):
    """A row is not the one that must stand there; the message says why."""


class Expected(Protocol):
    """The images of a submission, asked for one after the other."""

    @property
    def pixels(self) -> int:
        """Pixels of the largest image."""

    def begin(self, name: str, bone: str, row: int) -> Image:
        """Return the image whose 29 rows begin with row number `row`.

        Raises:
            MisplacedError: another image must stand there.
            InvalidInput: the image's size cannot be known.
        """

    def left(self, row: int) -> str | None:
        """Return what is wrong where the file ends before row number `row`, after a whole image."""


class Listed:
    """Exactly the given images, in the order of their paths."""

    def __init__(self, images: Iterable[Image]) -> None:
        """Raise InvalidInput where two images have one name."""
        self._images = sorted(images, key=lambda image: image.path)
        self._rows = len(self._images) * NUM_BONES + 1
        self._names = by_name(image.path for image in self._images)
        self.pixels = max((image.height * image.width for image in self._images), default=0)

    def begin(self, name: str, bone: str, row: int) -> Image:
        """See `Expected`."""
        if row > self._rows:
            raise MisplacedError(f"one too many, expected {self._rows} rows with the header")
        image = self._images[row // NUM_BONES]
        if name == image.name:
            return image
        what = "a row is missing, or out of order"
        if name not in self._names:
            what = f"unknown image, not one of the {len(self._images)} pictures"
        raise MisplacedError(f"{name[:80]} {bone[:40]}, expected {image.name} {BONES[0]} ({what})")

    def left(self, row: int) -> str | None:
        """See `Expected`."""
        if row > self._rows:
            return None
        image = self._images[row // NUM_BONES]
        return (
            f"missing, expected {image.name} {BONES[0]}; "
            f"the file has {row - 1} rows of {self._rows}"
        )


class Named:
    """Whatever images the file names, each once."""

    def __init__(self, size_of: SizeOf, pixels: int) -> None:
        """`pixels` is an upper limit for the pixels of one image."""
        self._size_of = size_of
        self._begun: dict[str, int] = {}
        self.pixels = pixels

    def begin(self, name: str, bone: str, row: int) -> Image:
        """See `Expected`."""
        if not name:
            raise MisplacedError("the image has no name")
        if "/" in name:
            raise MisplacedError(f"image {name[:80]} has a folder, expected the file's name alone")
        first = self._begun.setdefault(name, row)
        if first != row:
            raise MisplacedError(
                f"image {name[:80]} again, its rows began in row {first}; "
                "two images of one name cannot be told apart, rename one"
            )
        return Image(name, *self._size_of(name))

    def left(self, row: int) -> str | None:
        """See `Expected`."""
        return None if self._begun else "missing, the file has no images after its header"


def of_one_size(height: int = NATIVE_SIDE, width: int = NATIVE_SIDE) -> Named:
    """Return that any images of this size may stand in the file."""
    return Named(lambda name: (height, width), height * width)
