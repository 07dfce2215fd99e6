"""The raw layout: pictures in `<split>/DCM/<person>/`, polygons in `train/outputs_json/<person>/`.

    train/DCM/ID001/image1661130828152_R.png    train/outputs_json/ID001/image1661130828152_R.json
    test/DCM/ID040/image1661319116107.png

Some names carry the side as `_R` or `_L`; otherwise the first picture of a person, by the time
stamp in its name, is the right hand (source: the task's data description).
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from hbseg.errors import DeniedError, InvalidInput, NotFoundError

Side = Literal["R", "L"]
Split = Literal["train", "test"]

SPLITS: Final[tuple[Split, ...]] = ("train", "test")
PICTURE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Names that count as pictures, in any case; other files and hidden ones are passed over."""

_Wanted = Callable[["os.DirEntry[str]"], bool]

_LAYOUT: Final = "expected train/DCM/<person>/<picture>.png or test/DCM/<person>/<picture>.png"
_NEXT: Final = "give the folder that holds train and test; hbseg data synth OUT makes an example"


def is_picture(key: str) -> bool:
    """Return whether a file is taken for a picture, by its name alone; hidden ones are not."""
    name = key.rpartition("/")[2]
    return name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")


@dataclass(frozen=True)
class RawImage:
    """A picture of a raw set; paths are relative to its root, with `/`."""

    path: str
    """E.g. `train/DCM/ID001/image1661130828152_R.png`."""
    annotation: str | None
    """Path of its polygons, or none where the file is missing (and for the test split)."""
    person: str
    """Name of the folder, e.g. `ID001`."""
    side: Side
    """Right or left hand."""
    split: Split


def scan(root: Path) -> list[RawImage]:
    """Return the pictures of the raw set in `root`, sorted by path; no file is opened.

    Raises:
        NotFoundError: there is no such folder.
        InvalidInput: it is not in the raw layout, holds no picture, or a name in it has control
            characters or is not UTF-8.
        DeniedError: a folder may not be read.
    """
    if not root.is_dir():
        raise NotFoundError(f"no raw folder {root}", _NEXT)
    images = [image for split in SPLITS for image in _split_images(root, split)]
    if not images:
        raise InvalidInput(f"no pictures in {root}: {_LAYOUT}", _NEXT)
    return sorted(images, key=lambda image: image.path)


def missing_pictures(root: Path, images: Iterable[RawImage]) -> list[str]:
    """Return the paths that pictures should have whose annotation is there without them."""
    known = {image.annotation for image in images}
    labels = root / "train" / "outputs_json"
    return sorted(
        f"train/DCM/{person}/{os.path.splitext(name)[0]}.png"
        for person in _folders(labels)
        for name in _files(labels / person, (".json",))
        if f"train/outputs_json/{person}/{name}" not in known
    )


def _split_images(root: Path, split: Split) -> Iterator[RawImage]:
    pictures = root / split / "DCM"
    for person in _folders(pictures):
        names = _files(pictures / person, PICTURE_SUFFIXES)
        annotated = set(_files(root / split / "outputs_json" / person, (".json",)))
        for name, side in sides(names).items():
            json_name = os.path.splitext(name)[0] + ".json"
            has = split == "train" and json_name in annotated
            annotation = f"{split}/outputs_json/{person}/{json_name}" if has else None
            yield RawImage(f"{split}/DCM/{person}/{name}", annotation, person, side, split)


def sides(names: Sequence[str]) -> dict[str, Side]:
    """Return the side of each picture of one person, in order of time.

    `_R` or `_L` before the suffix says it; the other one of a pair is then the other side; without
    any, right and left alternate from the first (assumed for other than two pictures).
    """
    ordered = sorted(names, key=_time)
    stated = [_stated_side(name) for name in ordered]
    if len(ordered) == 2 and None in stated and stated != [None, None]:
        known: Side = "R" if "R" in stated else "L"
        stated = [side or _other(known) for side in stated]
    turns: tuple[Side, Side] = ("R", "L")
    return {
        name: side or turns[number % 2]
        for number, (name, side) in enumerate(zip(ordered, stated, strict=True))
    }


def _stated_side(name: str) -> Side | None:
    stem = os.path.splitext(name)[0].upper()
    if stem.endswith("_R"):
        return "R"
    return "L" if stem.endswith("_L") else None


def _other(side: Side) -> Side:
    return "L" if side == "R" else "R"


def _time(name: str) -> tuple[int, str]:
    stamp = re.search(r"[0-9]+", name)
    return (int(stamp.group()[:30]) if stamp else 0, name)


def _folders(path: Path) -> list[str]:
    return _entries(path, lambda entry: entry.is_dir())


def _files(path: Path, suffixes: tuple[str, ...]) -> list[str]:
    return _entries(path, lambda entry: entry.name.lower().endswith(suffixes) and entry.is_file())


def _entries(path: Path, wanted: _Wanted) -> list[str]:
    try:
        with os.scandir(path) as found:
            names = [e.name for e in found if not e.name.startswith(".") and wanted(e)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        raise DeniedError(f"no permission to read {path}") from None
    except OSError as error:  # a link that leads to itself, a disk that fails
        raise InvalidInput(f"{path} cannot be listed: {error.strerror}") from None
    return sorted(_checked_name(name, path) for name in names)


def _checked_name(name: str, folder: Path) -> str:
    if any(unicodedata.category(character) in _BAD_CATEGORIES for character in name):
        raise InvalidInput(
            f"{folder}: the name {name!r:.80} has control characters or is not UTF-8",
            "rename the file",
        )
    return name


_BAD_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
