"""The report of pictures whose truth is not known: masks, flags, and what could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import BONES
from hbseg.errors import InvalidInput
from hbseg.report.contents import ReportedHand
from hbseg.report.flagged import flag_texts, flags_view
from hbseg.report.hands import draw_hand, fitting, share_of_page
from hbseg.report.legend import FULL_NAMES
from hbseg.report.page import render_page
from hbseg.report.view import Card, HandGroup, PicturesView, Table
from hbseg.report.viewer import hand_group, left_out_text, viewer_view
from hbseg.runs.results import PICTURES, Flags, Pictures, UnreadableRecord
from hbseg.submission import Image
from hbseg.submission.expected import Listed
from hbseg.submission.scanning import Hand, read_hands

Gray = NDArray[np.uint8]
Load = Callable[[str], Gray]
"""Path of a picture to its gray levels, uint8 [H, W]."""

MAX_HANDS: Final = 400
"""Pictures that are shown at most: a few more than fit into a page at the smallest size."""
GROUP_HANDS: Final = 24
"""Pictures under one heading."""
MAX_UNREADABLE: Final = 200
"""Unreadable pictures that are listed at most."""


def build_pictures_report(
    pictures: Pictures, csv: Path, load: Load, flags: Flags | None = None
) -> bytes:
    """Return the report of the pictures whose masks are in `csv`, one HTML file below 15 MB.

    Flagged pictures come first, the most severe at the top, then the others by path. Only those
    that are shown are loaded, one at a time. Equal inputs give equal bytes.

    Raises:
        InvalidInput: the CSV does not fit the pictures, or one is no longer what it was.
    """
    found = _found(pictures, csv, load, flag_texts(flags))
    return render_page("pictures.html.j2", report=_view(pictures, found, flags))


def flagged_first(names: Sequence[str], flagged: Sequence[str]) -> list[str]:
    """Return all of `names`: those that are in `flagged` first, in that order."""
    known = set(names)
    first = dict.fromkeys(name for name in flagged if name in known)
    return [*first, *(name for name in names if name not in first)]


@dataclass
class _Found:
    """What the CSV has."""

    hands: list[ReportedHand] = field(default_factory=list)
    """Those that are shown, in the order of the page."""
    missing: Counter[str] = field(default_factory=Counter)
    """By bone: pictures in which its mask is empty."""


def _found(pictures: Pictures, csv: Path, load: Load, flags: Mapping[str, Sequence[str]]) -> _Found:
    images = [Image(item.path, item.height, item.width) for item in pictures.pictures]
    shown = flagged_first([image.name for image in images], list(flags))[:MAX_HANDS]
    wanted, limit = set(shown), share_of_page(len(shown))
    found, drawn = _Found(), {}
    for hand in read_hands(csv, Listed(images)):
        name = hand.image.name
        found.missing.update(
            bone for bone, runs in zip(BONES, hand.runs, strict=True) if not len(runs)
        )
        if name in wanted:
            gray = _loaded(hand, load)
            drawn[name] = draw_hand(
                hand.image.path, gray, hand.runs, limit=limit, flags=flags.get(name, ())
            )
    found.hands = fitting(drawn[name] for name in shown)
    return found


def _loaded(hand: Hand, load: Load) -> Gray:
    image = hand.image
    gray = load(image.path)
    if gray.shape != (image.height, image.width):
        height, width = gray.shape
        raise InvalidInput(
            f"{image.path} has {width} x {height} pixels, its masks are for "
            f"{image.width} x {image.height}: it has changed",
            "run the step infer again",
        )
    return gray


def _view(pictures: Pictures, found: _Found, flags: Flags | None) -> PicturesView:
    return PicturesView(
        folder=pictures.folder,
        cards=tuple(_cards(pictures, found, flags)),
        left_out=left_out_text(len(pictures.pictures), len(found.hands)),
        flags=flags_view(flags) if flags else None,
        missing=_missing(found.missing),
        unreadable=_unreadable(pictures.unreadable),
        viewer=viewer_view(_groups(found.hands)),
    )


def _cards(pictures: Pictures, found: _Found, flags: Flags | None) -> list[Card]:
    total = len(pictures.pictures)
    cards = [Card("Pictures", str(total), f"with masks; {len(found.hands)} are shown here")]
    if flags is not None:
        cards.append(Card("Flagged", str(len(flags.flagged)), "look at these first"))
    if found.missing:
        cards.append(Card("Empty masks", str(found.missing.total()), "bones that were not found"))
    else:
        cards.append(Card("Bones", str(len(BONES)), "found in every picture"))
    cards.append(Card("Unreadable", str(len(pictures.unreadable)), "left out, with the reason"))
    return cards


def _missing(missing: Counter[str]) -> Table | None:
    rows = tuple((FULL_NAMES[bone], str(missing[bone])) for bone in BONES if missing[bone])
    return Table("Bones with an empty mask", ("Bone", "Pictures"), rows) if rows else None


def _unreadable(records: Sequence[UnreadableRecord]) -> Table | None:
    rows = tuple((item.path, item.problem) for item in records[:MAX_UNREADABLE])
    left = len(records) - len(rows)
    more = f"; {left} more are in {PICTURES}" if left else ""
    caption = f"Left out{more}"
    return Table(caption, ("Picture", "Why"), rows, is_prose=True) if rows else None


def _groups(hands: Sequence[ReportedHand]) -> list[HandGroup]:
    """Return the hands under headings of `GROUP_HANDS` each."""
    groups = []
    for start in range(0, len(hands), GROUP_HANDS):
        part = hands[start : start + GROUP_HANDS]
        title = f"Pictures {start + 1} to {start + len(part)} of {len(hands)}"
        groups.append(hand_group(f"page-{start // GROUP_HANDS + 1}", title, part))
    return groups
