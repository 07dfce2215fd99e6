"""Run-length codes as text: row-major, 1-based `start length` pairs. Checked without numpy.

`hbseg.rle` has the same codes as arrays.
"""

from __future__ import annotations

import re
from operator import add, gt
from typing import Final

CODE: Final = re.compile(
    # possessive (*+): a row of a million runs leaves nothing to go back to
    r"[1-9][0-9]{0,11} [1-9][0-9]{0,11}(?: [1-9][0-9]{0,11} [1-9][0-9]{0,11})*+"
)
"""A code that is not empty, as far as single numbers show; each has at most 12 digits."""

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,11}")


class LeavesPictureError(ValueError):
    """A run ends beyond the picture; it may be of another size than was thought."""


def check_code(code: str, size: int) -> None:
    """Check a code for a picture of `size` pixels; an empty one is the code of an empty mask.

    Raises:
        ValueError: odd or unreadable numbers, or runs that overlap, are out of order, or leave
            the picture; the message names the first.
    """
    if not code:
        return
    if CODE.fullmatch(code) is None:
        raise ValueError(_why_unreadable(code))
    numbers = list(map(int, code.split(" ")))
    starts, lengths = numbers[::2], numbers[1::2]
    ends = list(map(add, starts, lengths))
    if any(map(gt, ends, starts[1:])):
        raise ValueError(_why_misplaced(starts, lengths, ends))
    if ends[-1] > size + 1:
        run = f"{starts[-1]} {lengths[-1]}"
        raise LeavesPictureError(f"run {run} leaves the picture of {size} pixels")


def longest_code(size: int) -> int:
    """Return the most characters that a code of a picture of `size` pixels can have."""
    return (size + 1) // 2 * (len(str(size)) + len(" 1 "))


def _why_unreadable(code: str) -> str:
    for number in code.split(" "):
        if not _NUMBER.fullmatch(number):
            digits = f" of {len(number)} digits" if number.isdigit() and len(number) > 12 else ""
            return f"not a positive number{digits}: {number[:40]!r}"
    return "an odd number of values: the last start has no length"


def _why_misplaced(starts: list[int], lengths: list[int], ends: list[int]) -> str:
    second = next(i for i in range(1, len(starts)) if ends[i - 1] > starts[i])
    run, before = (f"{starts[i]} {lengths[i]}" for i in (second, second - 1))
    if starts[second] < starts[second - 1]:
        return f"run {run} is out of order: it starts before {before}, the one before it"
    return f"run {run} overlaps the one before it ({before})"
