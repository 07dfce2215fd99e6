"""Rules on the picture file of one hand: it must be whole, 2048 x 2048, 8 bit, gray or RGB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hbseg.data.evidence import Evidence
from hbseg.submission import NATIVE_SIDE

BITS: Final = 8
CHANNELS: Final = (1, 3)
"""Three equal channels are the rule; one holds the same picture. Alpha is none of the two."""


def unreadable(evidence: Evidence) -> Iterator[str]:
    """Yield why the picture cannot be read: missing, cut off, damaged, no picture at all."""
    if evidence.picture_fault is not None:
        yield evidence.picture_fault


def wrong_size(evidence: Evidence) -> Iterator[str]:
    """Yield a size other than the task's."""
    header = evidence.header
    if header is not None and (header.height, header.width) != (NATIVE_SIDE, NATIVE_SIDE):
        yield f"{header.width} x {header.height} pixels, expected {NATIVE_SIDE} x {NATIVE_SIDE}"


def wrong_depth(evidence: Evidence) -> Iterator[str]:
    """Yield a depth or a number of channels other than the task's."""
    header = evidence.header
    if header is None or (header.bits == BITS and header.channels in CHANNELS):
        return
    yield (
        f"{header.bits} bits in {header.channels} channels, "
        f"expected {BITS} bits in {CHANNELS[-1]} equal channels"
    )
