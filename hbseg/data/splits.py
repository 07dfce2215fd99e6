"""Folds for validation: by person, so that nobody's two hands are on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from hbseg.errors import InvalidInput


def assign_folds(images: Mapping[str, int], *, folds: int, seed: int) -> dict[str, int]:
    """Return the fold, 0 to `folds` - 1, of each person; `images` is the number of their pictures.

    Depends on names, numbers and `seed` only, never on the order of `images`. Folds differ by at
    most one person's pictures: persons go, those with most pictures first and otherwise in an
    order drawn by `seed`, to the fold that has the fewest.

    Raises:
        InvalidInput: there are persons, but fewer than folds: a fold would stay empty.
    """
    if images and len(images) < folds:
        raise InvalidInput(
            f"{len(images)} persons cannot fill {folds} folds",
            f"set folds to at most {len(images)}, or add pictures of other persons",
        )
    filled = [0] * folds
    result: dict[str, int] = {}
    for person in sorted(images, key=lambda name: (-images[name], _draw(name, seed))):
        result[person] = filled.index(min(filled))
        filled[result[person]] += images[person]
    return result


def _draw(person: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{person}".encode()).hexdigest()
