"""How far two submissions agree: Dice per bone and image."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hbseg.submission.expected import Expected
from hbseg.submission.table import Image
from hbseg.submission.together import read_together


@dataclass(frozen=True)
class Agreement:
    """Dice of the masks that two submissions have of one image."""

    image: Image
    dice: array[float]
    """Of the 29 bones in class order; 1 where both are equal."""

    @property
    def mean(self) -> float:
        """The mean over the bones."""
        return sum(self.dice) / len(self.dice)


def agreements(first: Path, second: Path, expected: Callable[[], Expected]) -> Iterator[Agreement]:
    """Yield image by image how far two submissions agree.

    Raises:
        InvalidInput, NotFoundError, DeniedError: see `read_together`.
    """
    from hbseg.rle import dice

    for one, other in read_together((first, second), expected):
        values = array("d", map(dice, one.runs, other.runs))  # 8 bytes a bone: many are kept
        yield Agreement(one.image, values)
