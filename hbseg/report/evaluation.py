"""Tables of what was measured on the validation fold besides Dice."""

from __future__ import annotations

from typing import Final

from hbseg.report.legend import FULL_NAMES
from hbseg.report.view import Table
from hbseg.runs.results import BoneScores, Evaluation, Interval, Scores

DASH: Final = "–"
"""Stands for what was not measured."""

_HEADS: Final = ("Dice", "HD95, px", "Surface Dice, 1 px", "Surface Dice, 2 px")


def evaluation_tables(evaluation: Evaluation) -> tuple[Table, ...]:
    """Return the scores of all images, of each part of them, and of each bone."""
    return (_parts(evaluation), _bones(evaluation))


def _parts(evaluation: Evaluation) -> Table:
    rows = [("all", str(evaluation.images), *_cells(evaluation.scores))]
    rows += [
        (f"{part.by}: {part.name}", str(part.images), *_cells(part.scores))
        for part in evaluation.slices
    ]
    caption = (
        f"Mean and 95 % confidence interval over {evaluation.images} images of "
        f"{evaluation.persons} persons; the bootstrap draws persons"
    )
    return Table(caption, ("Images", "Number", *_HEADS), tuple(rows))


def _bones(evaluation: Evaluation) -> Table:
    heads = ("Bone", *_HEADS, "Missed", "Best threshold")
    rows = tuple(_bone_row(bone, evaluation.thresholds) for bone in evaluation.bones)
    caption = (
        "Each bone. Missed: images with the bone and an empty mask. At the best threshold of each "
        f"bone mean Dice is {evaluation.dice_at_thresholds:.4f}: optimistic, as they were chosen "
        "on these images"
    )
    return Table(caption, heads, rows)


def _bone_row(found: BoneScores, thresholds: dict[str, float]) -> tuple[str, ...]:
    threshold = thresholds.get(found.bone)
    return (
        FULL_NAMES.get(found.bone, found.bone),
        *_cells(found.scores),
        str(found.missed),
        DASH if threshold is None else f"{threshold:.2f}",
    )


def _cells(scores: Scores) -> tuple[str, ...]:
    return (
        _interval(scores.dice, 3),
        _interval(scores.hd95_px, 1),
        _interval(scores.surface_dice_1px, 3),
        _interval(scores.surface_dice_2px, 3),
    )


def _interval(value: Interval | None, decimals: int) -> str:
    if value is None:
        return DASH
    mean, low, high = (f"{number:.{decimals}f}" for number in (value.mean, value.low, value.high))
    return f"{mean} ({low}–{high})"
