"""Any pictures, in storage or on disk, whose names are those of a submission's images.

Needs no numpy before pixels are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hbseg.data.formats import MAX_PIXELS, inspect
from hbseg.data.raw import is_picture
from hbseg.errors import InvalidInput, NotFoundError
from hbseg.storage.opening import open_store
from hbseg.storage.store import Entry, Store
from hbseg.submission import Image, by_name
from hbseg.submission.expected import Named

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Pictures(Protocol):
    """What is read of a folder that has pictures; every `Store` is such."""

    @property
    def url(self) -> str:
        """URL of the folder, or of the one picture."""

    def get(self, key: str) -> bytes:
        """Return a file's bytes. Raises NotFoundError."""

    def list(self) -> Iterator[Entry]:
        """Yield the files, sorted by key."""


@dataclass(frozen=True)
class OnePicture:
    """A single picture; nothing else of its folder is read."""

    folder: Store
    name: str

    @property
    def url(self) -> str:
        """URL of the picture."""
        return f"{self.folder.url}/{self.name}"

    def get(self, key: str) -> bytes:
        """Return the picture's bytes."""
        return self.folder.get(key)

    def list(self) -> Iterator[Entry]:
        """Yield the picture."""
        yield Entry(self.name, len(self.get(self.name)))


def open_pictures(url: str) -> Pictures:
    """Return the pictures behind a URL or path: of a folder, or a single one.

    Raises:
        InvalidInput: it is no URL of a store.
    """
    store = open_store(url)
    above, _, name = store.url.rpartition("/")
    if is_picture(name) and not above.endswith("/"):  # not a bucket alone
        folder = open_store(above or "/")
        if folder.exists(name):
            return OnePicture(folder, name)
    return store


def picture_keys(images: Pictures) -> list[str]:
    """Return the keys of pictures, recognised by name.

    Raises:
        NotFoundError: there is no picture in the folder, or no folder.
    """
    keys = [entry.key for entry in images.list() if is_picture(entry.key)]
    if not keys:
        raise NotFoundError(f"no pictures in {images.url}", "correct --images")
    return keys


class PictureFolder:
    """The pictures below a folder by their names; a file is opened when it is asked for."""

    def __init__(self, store: Pictures) -> None:
        """Raise NotFoundError where there are none, InvalidInput where two have one name."""
        self._store = store
        self.url = store.url
        self.paths = by_name(picture_keys(store))
        """Path below the folder of each picture's name, in the order of the paths."""

    def path(self, name: str) -> str:
        """Return the path of a picture. Raises InvalidInput: there is none of this name."""
        if name not in self.paths:
            raise InvalidInput(
                f"unknown image {name[:80]!r}: no picture of this name in {self._store.url}",
                "correct --images or the name",
            )
        return self.paths[name]

    def gray(self, name: str) -> NDArray[np.uint8]:
        """Return the gray pixels of a picture, uint8 [H, W]. Raises InvalidInput."""
        from hbseg.data.pictures import read_gray

        path = self.path(name)
        return read_gray(self._store.get(path), source=path)

    def size_of(self, name: str) -> tuple[int, int]:
        """Return height and width in pixels as a viewer shows them. Raises InvalidInput."""
        path = self.path(name)
        header = inspect(self._store.get(path), source=path)
        if header.height == header.width:
            return header.height, header.width
        height, width = self.gray(name).shape  # EXIF may turn the picture
        return height, width

    def images(self) -> Iterator[Image]:
        """Yield the pictures in the order of their paths. Raises InvalidInput."""
        for name, path in self.paths.items():
            yield Image(path, *self.size_of(name))

    def expected(self) -> Named:
        """Return that a submission may cover any of these pictures, in any order."""
        return Named(self.size_of, MAX_PIXELS)
