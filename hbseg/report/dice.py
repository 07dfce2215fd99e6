"""Dice per bone and per hand as tables, lists and charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from hbseg.anatomy import BONES, COLOURS, GROUPS
from hbseg.report import charts
from hbseg.report.contents import Contents
from hbseg.report.evaluation import DASH
from hbseg.report.legend import FULL_NAMES
from hbseg.report.svg import number
from hbseg.report.view import (
    BarCell,
    Bone,
    BoneGroup,
    BoneRow,
    Chart,
    DiceTable,
    DiceView,
    DistributionView,
    Table,
    WorstBone,
)

NUM_WORST: Final = 5


@dataclass(frozen=True)
class Column:
    """A measured column of the table of Dice."""

    name: str
    style: str
    """CSS class of its bars."""
    dice: Mapping[str, float]
    """Dice per bone, at least one."""


def dice_text(value: float | None) -> str:
    """Return a Dice with three decimals, or a dash."""
    return DASH if value is None else f"{value:.3f}"


def bone_view(name: str) -> Bone:
    """Return a bone's names and its colour in pictures."""
    return Bone(name, FULL_NAMES[name], "#{:02x}{:02x}{:02x}".format(*COLOURS[name]))


def dice_view(contents: Contents) -> DiceView | None:
    """Return Dice per bone; None where no bone was measured."""
    columns = dice_columns(contents)
    if not columns:
        return None
    floor = bar_floor(columns)
    table = DiceTable(
        f"Dice of each bone on the validation hands. Bars start at {number(floor)}.",
        ("Bone", *(column.name for column in columns)),
        tuple(column.style for column in columns),
        tuple(_group(name, bones, columns, floor) for name, bones in GROUPS.items()),
    )
    last = columns[-1]
    worst = sorted((bone for bone in BONES if bone in last.dice), key=lambda b: last.dice[b])
    return DiceView(
        table,
        f"Lowest by {last.name.lower()}:",
        tuple(WorstBone(bone_view(b), dice_text(last.dice[b])) for b in worst[:NUM_WORST]),
    )


def distribution_view(contents: Contents) -> DistributionView | None:
    """Return how Dice spreads over bones and hands; None where the engine was not validated."""
    means = means_by_image(contents.validation)
    if not means:
        return None
    title = "Each bone: line 5 to 95 %, box quartiles, dot median"
    return DistributionView(
        Chart(title, charts.boxes(contents.validation)),
        Chart("Hands by mean Dice", charts.histogram(list(means.values()))),
        _worst_hands(contents.validation, means) if contents.shows_names else None,
    )


def dice_columns(contents: Contents) -> list[Column]:
    """Return the measured columns: each stage, then the engine."""
    columns = [
        Column(stage.name.capitalize(), stage.style, stage.dice_per_bone)
        for stage in contents.stages
    ]
    columns.append(Column("Engine", "engine", means_by_bone(contents.validation)))
    return [column for column in columns if column.dice]


def bar_floor(columns: Iterable[Column]) -> float:
    """Return the Dice at which bars start: below the lowest, a multiple of 0.1, at most 0.9."""
    lowest = min(value for column in columns for value in column.dice.values())
    return max(0.0, min(0.9, (int(lowest * 10 + 1e-9) - 1) / 10))


def means_by_bone(validation: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return the mean Dice of each bone over the images."""
    return _means((bone, dice) for (_, bone), dice in validation.items())


def means_by_image(validation: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return the mean Dice of each image over its bones."""
    return _means((image, dice) for (image, _), dice in validation.items())


def _means(named: Iterable[tuple[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for name, value in named:
        values.setdefault(name, []).append(value)
    return {name: fmean(found) for name, found in values.items()}


def _worst_hands(validation: Mapping[tuple[str, str], float], means: Mapping[str, float]) -> Table:
    """Return the hands with the lowest mean Dice and the weakest bone of each."""
    rows = []
    for image in sorted(means, key=lambda image: means[image])[:NUM_WORST]:
        bones = {bone: dice for (name, bone), dice in validation.items() if name == image}
        weakest = min(bones, key=lambda bone: bones[bone])
        text = f"{FULL_NAMES[weakest]} {dice_text(bones[weakest])}"
        rows.append((image, dice_text(means[image]), text))
    heads = ("Image", "Mean Dice", "Weakest bone")
    return Table("Hands to look at first", heads, tuple(rows), is_prose=True)


def _group(name: str, bones: Sequence[str], columns: Sequence[Column], floor: float) -> BoneGroup:
    means = [[column.dice[b] for b in bones if b in column.dice] for column in columns]
    return BoneGroup(
        name,
        tuple(dice_text(fmean(found) if found else None) for found in means),
        tuple(_bone_row(bone, columns, floor) for bone in bones),
    )


def _bone_row(bone: str, columns: Sequence[Column], floor: float) -> BoneRow:
    cells = tuple(_bar_cell(column.dice.get(bone), floor, column.style) for column in columns)
    return BoneRow(bone_view(bone), cells)


def _bar_cell(value: float | None, floor: float, style: str) -> BarCell:
    if value is None:
        return BarCell(DASH, None, style)
    share = max(0.0, min(1.0, (value - floor) / (1 - floor)))
    return BarCell(dice_text(value), number(100 * share), style)
