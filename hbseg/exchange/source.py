"""What the readers of all formats have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from hbseg.anatomy import INDEX
from hbseg.data import annotation
from hbseg.data.annotation import FARTHEST, Polygon
from hbseg.errors import DeniedError, InvalidInput, NotFoundError
from hbseg.rle import Runs, elected, patch_of, runs_in_box
from hbseg.submission.scanning import Hand

MAX_BYTES: Final = 1 << 30
"""Largest JSON file that is read, in bytes."""
NO_RUNS: Final[Runs] = np.empty((0, 2), dtype=np.int64)

Document = TypeVar("Document", bound=BaseModel)


class Source(Protocol):
    """Masks that can be read hand by hand."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the images, each once."""

    def hand(self, name: str) -> Hand:
        """Return one image with its masks. Raises InvalidInput: they cannot be read."""


class Loose(BaseModel):
    """Part of another tool's document: keys that are not listed are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)


def load(kind: type[Document], path: Path) -> Document:
    """Return a JSON document of another tool.

    Raises:
        NotFoundError: there is no such file.
        InvalidInput: not JSON, not of this kind, or more than `MAX_BYTES`.
    """
    data = content(path)
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        first = max(found, key=lambda item: len(item["loc"]))  # of a union: what came nearest
        place = ".".join(str(part) for part in first["loc"][:6])
        what = " ".join(first["msg"].split())[:160]
        raise InvalidInput(f"{path}: {place + ': ' if place else ''}{what}") from None


def content(path: Path) -> bytes:
    """Return the bytes of a file. Raises as `load`, and DeniedError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{path}: more than {MAX_BYTES:,} bytes", "split the file")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path}: no such file", "check the path") from None
    except PermissionError:
        raise DeniedError(f"no permission to read {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"{path}: cannot be read ({reason})") from None


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted by name, without hidden files.

    Raises:
        NotFoundError: there is no such folder.
        InvalidInput: it is no folder, or cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        raise NotFoundError(f"{folder}: no such folder", "check the path") from None
    except OSError as error:
        raise InvalidInput(f"{folder}: expected a folder ({error.strerror})") from None


def bone_of(label: str, place: str) -> str:
    """Return a label if it is a bone. Raises InvalidInput with the nearest bone."""
    if label not in INDEX:
        raise InvalidInput(f"{place}: {annotation.unknown_label(label)}")
    return label


def outline(points: Iterable[Sequence[float]], place: str) -> Polygon:
    """Return points as an outline, rounded to whole pixels. Raises InvalidInput."""
    pairs = [tuple(point) for point in points]
    if len(pairs) < 3:
        raise InvalidInput(f"{place}: {len(pairs)} points, a polygon needs 3")
    if any(len(pair) != 2 or not all(_is_near(value) for value in pair) for pair in pairs):
        raise InvalidInput(f"{place}: points are no pairs of numbers within +-{FARTHEST:,}")
    return np.rint(np.array(pairs, dtype=np.float64)).astype(np.int32)


def union(masks: Sequence[Runs]) -> Runs:
    """Return the runs of the pixels that any of the masks has."""
    return elected(masks, (1,) * len(masks), 1) if masks else NO_RUNS


def turned(runs: Runs, height: int, width: int) -> Runs:
    """Return runs that count along columns from runs that count along rows.

    `height` and `width` are those of the picture; the other way round with both exchanged.
    """
    if not len(runs):
        return runs
    patch = patch_of(runs, height, width)
    return runs_in_box(patch.mask.T.astype(np.bool_), patch.top, patch.left, height)


def _is_near(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= FARTHEST
