"""Several submissions of the same images, read side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from hbseg.errors import InvalidInput
from hbseg.submission.expected import Expected
from hbseg.submission.scanning import Hand, read_hands


def read_together(
    paths: Sequence[Path], expected: Callable[[], Expected]
) -> Iterator[tuple[Hand, ...]]:
    """Yield what each of the files says of an image, image by image.

    `expected` makes what one file may cover.

    Raises:
        InvalidInput: a row of one file is wrong, or the files have other images or another order.
        NotFoundError, DeniedError: a file cannot be read.
    """
    for hands in zip_longest(*(read_hands(path, expected()) for path in paths)):
        _check_same(paths, hands)
        yield hands


def _check_same(paths: Sequence[Path], hands: Sequence[Hand | None]) -> None:
    first = hands[0]
    for path, hand in zip(paths[1:], hands[1:], strict=True):
        if first is not None and hand is not None and hand.image.name == first.image.name:
            continue
        there = "ends" if first is None else f"has {first.image.name}"
        row = (hand or first or hands[-1]).row  # type: ignore[union-attr]
        here = "the file ends" if hand is None else f"image {hand.image.name}"
        raise InvalidInput(
            f"{path}: row {row}: {here}, where {paths[0]} {there}",
            "give CSVs of the same images in the same order",
        )
