"""Kubernetes quantities: cores and bytes as text, exactly."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Final

_FACTORS: Final = {
    "m": Fraction(1, 1000),
    "": Fraction(1),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", 1)},
}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)(m|k|[MGTPE]|[KMGTPE]i|)")
_BINARY: Final = ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki")


def amount(quantity: str) -> Fraction:
    """Return the number that a quantity such as `500m`, `4` or `16Gi` means: cores, or bytes.

    Raises:
        ValueError: it is no quantity.
    """
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r:.40} is no quantity")
    return Fraction(match[1]) * _FACTORS[match[2]]


def cores(quantity: str, processes: int) -> str:
    """Return the cores of several processes, e.g. `16`, or `1500m` where it is no whole number."""
    total = amount(quantity) * processes
    return str(total.numerator) if total.denominator == 1 else f"{math.ceil(total * 1000)}m"


def memory(quantities: Iterable[str]) -> str:
    """Return the sum in the largest unit in which it is whole, e.g. `68Gi`, else in bytes."""
    total = math.ceil(sum((amount(quantity) for quantity in quantities), Fraction(0)))
    for suffix in _BINARY:
        count, rest = divmod(total, int(_FACTORS[suffix]))
        if count and not rest:
            return f"{count}{suffix}"
    return str(total)
