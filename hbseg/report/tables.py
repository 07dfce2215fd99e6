"""The report's tables and lists of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hbseg.anatomy import BONES, GROUPS
from hbseg.report.charts import swatch
from hbseg.report.contents import Contents, Latency, StepVersion
from hbseg.report.legend import FULL_NAMES
from hbseg.report.markup import Element, number, tag
from hbseg.system.clock import parse

DASH: Final = "–"
"""Stands for what was not measured."""
NUM_WORST: Final = 5
COLUMN_CLASSES: Final = {"Stage 1": "stage1", "Stage 2": "stage2"}


def dice_text(value: float | None) -> str:
    """Return a Dice with three decimals, or a dash."""
    return DASH if value is None else f"{value:.3f}"


def time_text(time: str) -> str:
    """Return an ISO 8601 time of UTC to the minute, or the text as it is."""
    try:
        return parse(time).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return time


def cards(figures: Sequence[tuple[str, str, str]]) -> Element:
    """Return the summary: name, figure and remark of each card."""
    items = [
        tag("div", tag("dt", name), tag("dd", figure, tag("small", remark)))
        for name, figure, remark in figures
    ]
    return tag("dl", *items, class_="cards")


def dice_table(contents: Contents) -> Element:
    """Return Dice per bone, with a column for each stage and one for the engine."""
    columns = dice_columns(contents)
    floor = bar_floor(columns)
    heads = [tag("th", name, scope="col") for name in ("Bone", *columns)]
    bodies = [_group(group, bones, columns, floor) for group, bones in GROUPS.items()]
    caption = f"Dice of each bone on the validation hands. Bars start at {number(floor)}."
    return _scrolled(
        tag("table", tag("caption", caption), tag("thead", tag("tr", *heads)), *bodies)
    )


def dice_columns(contents: Contents) -> dict[str, Mapping[str, float]]:
    """Return the measured columns: name, Dice per bone."""
    columns: dict[str, Mapping[str, float]] = {
        stage.name.capitalize(): stage.dice_per_bone for stage in contents.stages
    }
    columns["Engine"] = means_by_bone(contents.validation)
    return {name: dice for name, dice in columns.items() if dice}


def bar_floor(columns: Mapping[str, Mapping[str, float]]) -> float:
    """Return the Dice at which bars start: below the lowest, a multiple of 0.1, at most 0.9."""
    lowest = min((value for dice in columns.values() for value in dice.values()), default=0.0)
    return max(0.0, min(0.9, (int(lowest * 10 + 1e-9) - 1) / 10))


def worst_bones(contents: Contents) -> Element | None:
    """Return the bones with the lowest Dice of the last column, lowest first."""
    columns = dice_columns(contents)
    if not columns:
        return None
    name, dice = list(columns.items())[-1]
    worst = sorted((bone for bone in BONES if bone in dice), key=lambda bone: dice[bone])
    items = [
        tag("li", swatch(bone), tag("b", FULL_NAMES[bone]), f" {dice_text(dice[bone])}")
        for bone in worst[:NUM_WORST]
    ]
    return tag(
        "div",
        tag("p", f"Lowest by {name.lower()}:", class_="list-name"),
        tag("ol", *items, class_="worst"),
    )


def worst_hands(contents: Contents) -> Element | None:
    """Return the validation hands with the lowest mean Dice and the weakest bone of each."""
    means = means_by_image(contents.validation)
    if not means:
        return None
    rows = []
    for image in sorted(means, key=lambda image: means[image])[:NUM_WORST]:
        bones = {bone: v for (name, bone), v in contents.validation.items() if name == image}
        weakest = min(bones, key=lambda bone: bones[bone])
        text = f"{FULL_NAMES.get(weakest, weakest)} {dice_text(bones[weakest])}"
        rows.append((image, dice_text(means[image]), text))
    return table("Hands to look at first", ("Image", "Mean Dice", "Weakest bone"), rows)


def means_by_bone(validation: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return the mean Dice of each bone over the images."""
    return _means(validation, 1)


def means_by_image(validation: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return the mean Dice of each image over its bones."""
    return _means(validation, 0)


def latency_table(latencies: Sequence[Latency]) -> Element:
    """Return latency and memory of eager and compiled network."""
    rows = [
        (row.name, *(_one_decimal(v) for v in (row.p50, row.p95, row.p99, row.memory)))
        for row in latencies
    ]
    heads = ("Network", "p50, ms", "p95, ms", "p99, ms", "Peak memory, MiB")
    return table("Time and memory of one call of the network", heads, rows)


def version_table(versions: Sequence[StepVersion]) -> Element:
    """Return which code made which result when."""
    rows = [
        (v.step, time_text(v.finished), v.code_version, v.spec_hash, v.digest) for v in versions
    ]
    heads = ("Step", "Finished", "hbseg", "Spec", "Result")
    return table("What the markers of the steps say; hashes are shortened", heads, rows)


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Element:
    """Return a table whose first column heads its rows."""
    head = tag("tr", *(tag("th", name, scope="col") for name in heads))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
        for row in rows
    ]
    return _scrolled(tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body)))


def _scrolled(wide: Element) -> Element:
    return tag("div", wide, class_="scrolled", tabindex="0", role="group", aria_label="Table")


def _means(validation: Mapping[tuple[str, str], float], part: int) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for key, value in validation.items():
        values.setdefault(key[part], []).append(value)
    return {name: sum(found) / len(found) for name, found in values.items()}


def _group(
    group: str,
    bones: Sequence[str],
    columns: Mapping[str, Mapping[str, float]],
    floor: float,
) -> Element:
    means = [_mean([dice[b] for b in bones if b in dice]) for dice in columns.values()]
    head = tag(
        "tr",
        tag("th", group, scope="rowgroup"),
        *(tag("td", dice_text(mean)) for mean in means),
        class_="group",
    )
    return tag("tbody", head, *(_bone_row(bone, columns, floor) for bone in bones))


def _bone_row(bone: str, columns: Mapping[str, Mapping[str, float]], floor: float) -> Element:
    full = FULL_NAMES[bone]
    more = tag("small", full) if full != bone else None
    cells = [
        _bar_cell(dice.get(bone), floor, f"bar {COLUMN_CLASSES.get(name, 'engine')}")
        for name, dice in columns.items()
    ]
    return tag("tr", tag("th", swatch(bone), bone, more, scope="row"), *cells)


def _bar_cell(value: float | None, floor: float, bar: str) -> Element:
    if value is None:
        return tag("td", DASH)
    share = max(0.0, min(1.0, (value - floor) / (1 - floor)))
    inner = tag("i", style=f"width:{number(100 * share)}%")
    return tag("td", tag("span", inner, class_=bar, aria_hidden="true"), dice_text(value))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _one_decimal(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"
