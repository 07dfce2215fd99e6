"""What to tell a person whose name is not a known one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_CUTOFF: Final = 0.5
"""Similarity (difflib's ratio, 0 to 1) from which on a known name is suggested."""


def nearest(name: str, known: Iterable[str], *, otherwise: str | None = None) -> str:
    """Return `did you mean X?` with the known name nearest to an unknown one, whatever its case.

    Where none is near, `expected one of A, B, ...`, or `otherwise`.
    """
    import difflib

    by_lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=_CUTOFF)
    if near:
        return f"did you mean {by_lower[near[0]]}?"
    return f"expected one of {', '.join(by_lower.values())}" if otherwise is None else otherwise
