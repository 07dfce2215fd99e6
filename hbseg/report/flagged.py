"""What a page says of flagged images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from hbseg.report.legend import FULL_NAMES
from hbseg.report.view import FlagsView, Table
from hbseg.runs.results import FLAGS, Flag, FlaggedImage, FlagKind, Flags

MAX_ROWS: Final = 50
"""Flagged images that a table lists."""
MAX_REASONS: Final = 4
"""Reasons that are told of an image."""

_KINDS: Final = {
    FlagKind.MISSING: "bone missing",
    FlagKind.SPLIT: "bone in two parts",
    FlagKind.RAY_ORDER: "fingers out of order",
    FlagKind.FAR: "bone far from its neighbours",
    FlagKind.LOW_CONFIDENCE: "low confidence",
}


def flags_view(flags: Flags, *, shows_names: bool = True) -> FlagsView:
    """Return how many images have which flag, and which images to look at first."""
    images = f"{len(flags.flagged)} of {flags.images} images have a flag."
    if not flags.flagged:
        return FlagsView(images, None, None)
    return FlagsView(images, _counts(flags), _list(flags.flagged) if shows_names else None)


def flag_texts(flags: Flags | None) -> dict[str, tuple[str, ...]]:
    """Return why each flagged image is, the most severe image and reason first."""
    return {image.image: _reasons(image) for image in (flags.flagged if flags else ())}


def _counts(flags: Flags) -> Table:
    kinds = Counter(kind for image in flags.flagged for kind in {flag.kind for flag in image.flags})
    rows = tuple((_KINDS[kind], str(kinds[kind])) for kind in FlagKind if kinds[kind])
    return Table("Images by the kind of their flags", ("Flag", "Images"), rows)


def _list(flagged: Sequence[FlaggedImage]) -> Table:
    rows = tuple(
        (image.image, f"{image.severity:.2f}", "; ".join(_reasons(image)))
        for image in flagged[:MAX_ROWS]
    )
    left = len(flagged) - len(rows)
    more = f"; {left} more are in {FLAGS}" if left else ""
    return Table(f"Look at these first{more}", ("Image", "Severity", "Why"), rows, is_prose=True)


def _reasons(image: FlaggedImage) -> tuple[str, ...]:
    flags = sorted(image.flags, key=lambda flag: -flag.severity)
    left = len(flags) - MAX_REASONS
    more = (f"and {left} more",) if left > 0 else ()
    return (*map(_text, flags[:MAX_REASONS]), *more)


def _text(flag: Flag) -> str:
    full_name = FULL_NAMES.get(flag.bone, flag.bone)
    named = flag.bone in flag.text or full_name in flag.text
    return flag.text if named else f"{full_name}: {flag.text}"
