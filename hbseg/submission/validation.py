"""Whether a submission is valid, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hbseg.anatomy import NUM_BONES
from hbseg.codes import check_code
from hbseg.errors import HbsegError
from hbseg.submission.expected import Expected, Listed
from hbseg.submission.scanning import Problem, scan
from hbseg.submission.table import Image

MAX_PROBLEMS: Final = 20
"""Problems that are reported before the reading stops."""


@dataclass(frozen=True)
class Verdict:
    """What a check of a submission found."""

    num_images: int
    """Images that were read whole and right."""
    problems: list[str]
    """What is wrong, first row first; at most `MAX_PROBLEMS` and a last line."""
    outside: bool = False
    """Whether the first problem is a run that leaves its picture."""


def validate(path: Path | str, images: Iterable[Image | str]) -> list[str]:
    """Return what is wrong with the submission at `path`, first row first; empty: it is valid.

    `images` are the expected ones, in any order; a text stands for an image of 2048 x 2048.
    Reads row by row: memory does not grow with the file.
    """
    try:
        expected = Listed(i if isinstance(i, Image) else Image(i) for i in images)
        return check(path, expected).problems
    except HbsegError as error:
        return [str(error)]


def check(path: Path | str, expected: Expected) -> Verdict:
    """Return what is wrong with a submission of the images that are expected.

    Raises:
        NotFoundError, DeniedError, InvalidInput: see `scan`.
    """
    right = 0
    problems: list[str] = []
    outside = False
    for item in scan(path, expected, check_code):
        if not isinstance(item, Problem):
            right += 1
        elif len(problems) < MAX_PROBLEMS:
            outside = outside or (item.outside and not problems)
            problems.append(str(item))
        else:
            problems.append("more problems follow")
            break
    return Verdict(right // NUM_BONES, problems, outside)
