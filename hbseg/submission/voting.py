"""A vote of several submissions, pixel by pixel, computed on runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hbseg.anatomy import BONES, INDEX
from hbseg.errors import InvalidInput
from hbseg.submission.expected import Expected
from hbseg.submission.table import header, rows
from hbseg.submission.together import read_together

MILLION: Final = 1_000_000
"""Weights and thresholds are whole millionths, so that sums are exact and a tie is a tie."""
_DECIMAL: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True)
class Rule:
    """What a pixel needs to be in the result."""

    weights: tuple[int, ...]
    """Of each file, in millionths."""
    needed: Mapping[str, int]
    """The least sum of weights for each bone, in millionths; at least 1."""


def rule(num_files: int, weights: str | None = None, thresholds: Sequence[str] = ()) -> Rule:
    """Return the rule of a vote of `num_files` files: the majority by default.

    A pixel is in the result where the files that have it hold more than the threshold of all
    weights. `weights` are numbers with commas, one for each file (default 1 each). `thresholds` are
    shares from 0 up to below 1 (default 0.5), each for all bones or, as `BONE=SHARE`, for one.

    Raises:
        InvalidInput: a number is none or out of range, a bone is unknown, or the number of weights
            is not that of the files.
    """
    parsed = _weights(num_files, weights)
    shares = _shares(thresholds)
    total = sum(parsed)
    return Rule(parsed, {bone: shares[bone] * total // MILLION + 1 for bone in BONES})


def vote(paths: Sequence[Path], of: Rule, expected: Callable[[], Expected]) -> Iterator[str]:
    """Yield the text of the submission that several submissions vote for, image by image.

    Raises:
        InvalidInput, NotFoundError, DeniedError: see `read_together`.
    """
    from hbseg.rle import elected, to_text

    yield header()
    for hands in read_together(paths, expected):
        ballots = zip(*(hand.runs for hand in hands), strict=True)
        codes = [
            to_text(elected(ballot, of.weights, of.needed[bone]))
            for bone, ballot in zip(BONES, ballots, strict=True)
        ]
        yield rows(hands[0].image, codes)


def _weights(num_files: int, text: str | None) -> tuple[int, ...]:
    if text is None:
        return (MILLION,) * num_files
    parts = text.split(",")
    if len(parts) != num_files:
        raise InvalidInput(
            f"--weights {text[:80]!r} has {len(parts)} numbers, expected {num_files}",
            "give one for each CSV, as in 2,1,1",
        )
    weights = tuple(_millionths(part, "--weights", "a number up to 999999") for part in parts)
    if not any(weights):
        raise InvalidInput(f"--weights {text[:80]!r} are all 0", "give one CSV more than 0")
    return weights


def _shares(texts: Sequence[str]) -> dict[str, int]:
    shares = dict.fromkeys(BONES, MILLION // 2)
    for text in sorted(texts, key=lambda text: "=" in text):  # one bone's counts more than all's
        bone, separator, number = text.rpartition("=")
        if separator and bone not in INDEX:
            raise InvalidInput(
                f"--threshold {text[:80]!r}: unknown class {bone[:40]!r}",
                f"expected one of {', '.join(BONES)}",
            )
        share = _millionths(number, "--threshold", "a share from 0 up to below 1")
        if share >= MILLION:
            raise InvalidInput(
                f"--threshold {number} asks for more than all weights",
                "give a share from 0 up to below 1",
            )
        shares.update(dict.fromkeys((bone,) if bone else BONES, share))
    return shares


def _millionths(text: str, flag: str, expected: str) -> int:
    if not _DECIMAL.fullmatch(text):
        raise InvalidInput(f"{flag}: {text[:40]!r}, expected {expected} with at most 6 decimals")
    whole, _, part = text.partition(".")
    return int(whole) * MILLION + int(part.ljust(6, "0"))
