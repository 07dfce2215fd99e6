"""What a run may be called."""

from __future__ import annotations

import re
from typing import Final

from hbseg.errors import InvalidInput

MAX_NAME: Final = 40
"""Characters of a run's name: pods and services add to it, and end at 63."""

_NAME: Final = re.compile(r"[a-z](?:[-a-z0-9]*[a-z0-9])?")


def is_run_name(name: str) -> bool:
    """Return whether a run may be called so."""
    return _NAME.fullmatch(name) is not None and len(name) <= MAX_NAME


def checked_run_name(name: str) -> str:
    """Return `name` if a run may be called so.

    Raises:
        InvalidInput: not lower-case letters, digits and `-`, or too long.
    """
    if not is_run_name(name):
        raise InvalidInput(
            f"run name {name[:60]!r} is not valid",
            f"use a letter, then up to {MAX_NAME - 1} of a-z, 0-9 and -",
        )
    return name
