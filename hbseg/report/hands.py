"""Hands as a page shows them: a small gray picture, and the outlines of the masks above it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import BONES
from hbseg.report.contents import BoneShape, ReportedHand
from hbseg.report.outlines import only_first, outline
from hbseg.report.overlay import stretched
from hbseg.rle import Runs

PAGE_BYTES: Final = 13_500_000
"""What all hands of a page take at most, of the 15 MB that a page may have."""
PICTURE_STEPS: Final = ((1600, 85), (1200, 82), (900, 80), (700, 76))
"""Longest side in pixels and JPEG quality, tried until a picture keeps to its share."""
BASE64: Final = 4 / 3
"""Characters of a page per byte of a picture."""

_MARKUP: Final = 4_000
"""Bytes of a hand's elements, names and texts."""
_PATH: Final = 40
"""Bytes of the element of an outline."""
_OUTLINES: Final = 20_000
"""Bytes of all else than its picture that a hand takes as a rule."""
_TOLERANCE: Final = 0.5
"""How far an outline may be off, in pixels of the picture that is shown."""


def draw_hand(
    name: str,
    gray: NDArray[np.uint8],
    prediction: Sequence[Runs],
    *,
    limit: int,
    truth: Sequence[Runs] | None = None,
    dice: Mapping[str, float] | None = None,
    flags: Sequence[str] = (),
) -> ReportedHand:
    """Return a hand for a page.

    `gray` is uint8 [H, W]; `prediction` and `truth` are the 29 bones' runs in class order; `dice`
    has the measured bones; the picture takes `limit` bytes, if it can be made so small.

    Raises:
        ValueError: runs leave the picture.
    """
    jpeg, side = as_jpeg(stretched(gray), limit)
    height, width = gray.shape
    tolerance = _TOLERANCE * max(height, width) / side
    draw = partial(outline, height=height, width=width, tolerance=tolerance)
    if truth is None:
        shapes = [BoneShape(bone, draw(runs)) for bone, runs in zip(BONES, prediction, strict=True)]
    else:
        shapes = [
            _compared(bone, runs, right, draw, (dice or {}).get(bone))
            for bone, runs, right in zip(BONES, prediction, truth, strict=True)
        ]
    return ReportedHand(
        name, jpeg, width, height, tuple(shapes), has_truth=truth is not None, flags=tuple(flags)
    )


def _compared(
    bone: str, runs: Runs, right: Runs, draw: Callable[[Runs], str], dice: float | None
) -> BoneShape:
    return BoneShape(
        bone,
        draw(runs),
        truth=draw(right),
        extra=draw(only_first(runs, right)),
        missed=draw(only_first(right, runs)),
        dice=dice,
    )


def as_jpeg(gray: NDArray[np.uint8], limit: int) -> tuple[bytes, int]:
    """Return a JPEG of `gray`, uint8 [H, W], and its longest side in pixels.

    It is as large as `limit` bytes allow; the smallest size is taken whatever it has.
    """
    for side, quality in PICTURE_STEPS:
        scale = min(1.0, side / max(gray.shape))
        small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        written, jpeg = cv2.imencode(".jpg", small, options)
        if not written:
            raise RuntimeError("OpenCV could not encode a picture")
        if jpeg.size <= limit:
            break
    return jpeg.tobytes(), max(small.shape)


def share_of_page(hands: int) -> int:
    """Return the bytes that a picture may have where a page shows so many hands."""
    return round((PAGE_BYTES / max(hands, 1) - _OUTLINES) / BASE64)


def fitting(hands: Iterable[ReportedHand]) -> list[ReportedHand]:
    """Return the first hands that take at most `PAGE_BYTES` of a page together."""
    found, room = [], PAGE_BYTES
    for hand in hands:
        room -= page_bytes(hand)
        if room < 0:
            break
        found.append(hand)
    return found


def fitting_in_turn(*groups: Sequence[ReportedHand]) -> list[tuple[ReportedHand, ...]]:
    """Return of each group the first hands, as many as fit into a page with those of the others.

    The first of each group come before the second of any.
    """
    turns = [
        (place, hand)
        for turn in zip_longest(*groups)
        for place, hand in enumerate(turn)
        if hand is not None
    ]
    fit = len(fitting(hand for _, hand in turns))
    counts = Counter(place for place, _ in turns[:fit])
    return [tuple(group[: counts[place]]) for place, group in enumerate(groups)]


def page_bytes(hand: ReportedHand) -> int:
    """Return about how many bytes of a page a hand takes: its picture and its outlines."""
    paths = [
        path
        for shape in hand.shapes
        for path in (shape.prediction, shape.truth, shape.extra, shape.missed)
    ]
    outlines = sum(len(path) + _PATH for path in paths if path)
    return round(len(hand.jpeg) * BASE64) + outlines + _MARKUP
