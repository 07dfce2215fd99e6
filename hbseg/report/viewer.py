"""Hands as figures of a page, with the switches of what is drawn on them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from hbseg.anatomy import BONES, COLOURS, GROUPS, INDEX
from hbseg.report.contents import BoneShape, ReportedHand
from hbseg.report.dice import bone_view, dice_text
from hbseg.report.legend import FULL_NAMES
from hbseg.report.overlay import outline_colour
from hbseg.report.view import (
    BoneFigure,
    BoneSwitch,
    HandFigure,
    HandGroup,
    SwitchGroup,
    ViewerView,
)


def viewer_view(groups: Sequence[HandGroup]) -> ViewerView:
    """Return groups of pictures with a switch for each bone; groups without any are left out."""
    shown = tuple(group for group in groups if group.hands)
    return ViewerView(
        groups=shown,
        switches=tuple(_switches(name, bones) for name, bones in GROUPS.items()),
        has_truth=any(hand.has_truth for group in shown for hand in group.hands),
    )


def left_out_text(total: int, shown: int) -> str:
    """Return how many pictures a report leaves out, as a sentence; empty where it shows all."""
    if total == shown:
        return ""
    return (
        f"{total - shown} of {total} pictures are not shown: a report has at most 15 MB. Their "
        "masks are in submission.csv; hbseg submission show draws them."
    )


def hand_group(key: str, title: str, hands: Sequence[ReportedHand]) -> HandGroup:
    """Return the figures of hands; `key` begins the anchor of each."""
    figures = (_figure(f"{key}-{number}", hand) for number, hand in enumerate(hands, start=1))
    return HandGroup(key, title, tuple(figures))


def _figure(key: str, hand: ReportedHand) -> HandFigure:
    found = len(BONES) - len(hand.missing)
    return HandFigure(
        key=key,
        name=hand.name,
        source=f"data:image/jpeg;base64,{base64.b64encode(hand.jpeg).decode()}",
        alt=f"Radiograph {hand.name} with the masks of {found} bones",
        width=hand.width,
        height=hand.height,
        bones=tuple(_bone(shape) for shape in hand.shapes),
        has_truth=hand.has_truth,
        dice="" if hand.dice is None else dice_text(hand.dice),
        missing=", ".join(FULL_NAMES[bone] for bone in hand.missing),
        flags=hand.flags,
    )


def _bone(shape: BoneShape) -> BoneFigure:
    dice = "" if shape.dice is None else f", Dice {dice_text(shape.dice)}"
    return BoneFigure(
        style=_style(shape.bone),
        title=FULL_NAMES[shape.bone] + dice,
        prediction=shape.prediction,
        truth=shape.truth,
        extra=shape.extra,
        missed=shape.missed,
    )


def _switches(name: str, bones: Sequence[str]) -> SwitchGroup:
    return SwitchGroup(name, tuple(map(_switch, bones)))


def _switch(bone: str) -> BoneSwitch:
    edge = "#{:02x}{:02x}{:02x}".format(*outline_colour(COLOURS[bone]))
    return BoneSwitch(_style(bone), edge, bone_view(bone))


def _style(bone: str) -> str:
    return f"bone-{INDEX[bone]}"
