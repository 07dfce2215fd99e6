"""Charts as inline SVG: no script, no network; colours are those of the page's style.

Coordinates are pixels of the view box. Each chart carries its figures as a label for screen
readers, and each mark a title that shows on hover.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup

from hbseg.anatomy import BONES, COLOURS
from hbseg.report.contents import Epoch, Stage
from hbseg.report.legend import FULL_NAMES
from hbseg.report.svg import Element, element, markup, number

WIDTH: Final = 520
WIDE: Final = 1060
HEIGHT: Final = 270
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 36
_NAMES_HEIGHT: Final = 92
"""Room for names below a chart, written upwards."""
_MAX_DOTS: Final = 60
"""Epochs of a stage above which only the line is drawn."""

Reading = Callable[[Epoch], float | None]


@dataclass(frozen=True)
class Series:
    """Figures of one line: by place on the axis across, at least one."""

    name: str
    style: str
    """CSS class."""
    values: Mapping[int, float]


@dataclass(frozen=True)
class Axis:
    """A linear scale from values (`low` to `high`) to pixels (`start` to `end`)."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of `value`."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def curve(label: str, stages: Sequence[Stage], read: Reading, *, top: float | None) -> Markup:
    """Return the curve of a figure by epoch, stage 2 after stage 1; `top` pins the upper end.

    Epochs without the figure leave a gap in the line. No stage may be without any.
    """
    lines = _placed(stages, read)
    values = [value for points in lines.values() for _, value in points]
    low = min(values) if top is not None else min(0.0, *values)
    ticks = _ticks(low, max(values) if top is None else top, beyond=top is None)
    across = Axis(0.5, max(2.5, _last(lines) + 0.5), LEFT, WIDTH - RIGHT)
    up = Axis(ticks[0], ticks[-1] if top is None else top, HEIGHT - BOTTOM, TOP)
    marks = [_stage_line(stage, lines[stage.name], across, up) for stage in stages]
    shown = f"{label} by epoch: " + "; ".join(_told(name, lines[name]) for name in lines)
    grid = [*_rules(ticks, up, WIDTH), *_epoch_ticks(across, _last(lines))]
    return _svg(shown, WIDTH, HEIGHT, *grid, *marks)


def lines(label: str, across_label: str, series: Sequence[Series]) -> Markup:
    """Return figures from 0 upwards as a line for each of `series`, with a dot for each figure."""
    places = sorted({place for one in series for place in one.values})
    ticks = _ticks(0, max(value for one in series for value in one.values.values()), beyond=True)
    across = Axis(0, places[-1] + 0.5, LEFT, WIDTH - RIGHT)
    up = Axis(0, ticks[-1], HEIGHT - BOTTOM, TOP)
    marks = [_line(one, across, up) for one in series]
    below = [_tick_text(across(place), HEIGHT - BOTTOM + 18, str(place)) for place in places]
    title = _tick_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, across_label)
    shown = f"{label}: " + "; ".join(
        f"{one.name} " + ", ".join(f"{value:.1f} at {place}" for place, value in one.values.items())
        for one in series
    )
    return _svg(shown, WIDTH, HEIGHT, *_rules(ticks, up, WIDTH), *below, title, *marks)


def boxes(validation: Mapping[tuple[str, str], float]) -> Markup:
    """Return the spread of Dice for each bone: line 5 to 95 %, box quartiles, dot median."""
    by_bone = {bone: [v for (_, b), v in validation.items() if b == bone] for bone in BONES}
    spreads = {
        bone: np.percentile(values, (5, 25, 50, 75, 95)).tolist()
        for bone, values in by_bone.items()
        if values
    }
    ticks = _ticks(min(spread[0] for spread in spreads.values()), 1.0)
    floor = HEIGHT + 30 - _NAMES_HEIGHT
    up = Axis(ticks[0], 1.0, floor, TOP)
    step = (WIDE - LEFT - RIGHT) / len(spreads)
    marks = [
        _box(bone, spread, LEFT + (place + 0.5) * step, up)
        for place, (bone, spread) in enumerate(spreads.items())
    ]
    lowest = min(spreads, key=lambda bone: spreads[bone][2])
    label = f"Dice of {len(spreads)} bones; lowest median: {lowest} {spreads[lowest][2]:.3f}"
    return _svg(label, WIDE, HEIGHT + 30, *_rules(ticks, up, WIDE), *marks)


def histogram(values: Sequence[float]) -> Markup:
    """Return how many of `values`, Dice between 0 and 1, at least one, lie in each bin."""
    ticks = _ticks(min(values), max(values), beyond=True)
    bins = max(8, min(24, round(2 * math.sqrt(len(values)))))
    counts, edges = np.histogram(values, bins=bins, range=(ticks[0], ticks[-1]))
    across = Axis(ticks[0], ticks[-1], LEFT, WIDTH - RIGHT)
    heights = [tick for tick in _ticks(0, float(counts.max())) if tick == round(tick)]
    up = Axis(0, max(heights[-1], float(counts.max())), HEIGHT - BOTTOM, TOP)
    bars = [
        _bar(int(count), float(low), float(high), across, up)
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    ]
    below = [_tick_text(across(tick), HEIGHT - BOTTOM + 18, _figure(tick)) for tick in ticks]
    label = (
        f"Mean Dice of {len(values)} hands: lowest {min(values):.3f}, "
        f"median {float(np.median(values)):.3f}, highest {max(values):.3f}"
    )
    return _svg(label, WIDTH, HEIGHT, *_rules(heights, up, WIDTH), *below, *bars)


def _placed(stages: Sequence[Stage], read: Reading) -> dict[str, list[tuple[float, float]]]:
    """Return the points (epochs since the start of stage 1, figure) of each stage."""
    lines, before = {}, 0
    for stage in stages:
        first = stage.epochs[0].epoch if stage.epochs else 0
        at = [(before + epoch.epoch - first + 1, read(epoch)) for epoch in stage.epochs]
        lines[stage.name] = [(float(place), value) for place, value in at if value is not None]
        before = max([before, *(place for place, _ in at)])
    return lines


def _last(lines: Mapping[str, Sequence[tuple[float, float]]]) -> float:
    return max(place for points in lines.values() for place, _ in points)


def _told(name: str, points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return f"{name} no figures"
    return f"{name} from {points[0][1]:.3f} to {points[-1][1]:.3f}"


def _stage_line(
    stage: Stage, line: Sequence[tuple[float, float]], across: Axis, up: Axis
) -> Element:
    told = [f"{stage.name}: {value:.4f}" for _, value in line] if len(line) <= _MAX_DOTS else []
    return _polyline([(across(place), up(value)) for place, value in line], told, stage.style)


def _line(series: Series, across: Axis, up: Axis) -> Element:
    points = [(across(place), up(value)) for place, value in series.values.items()]
    told = [f"{series.name}, {place}: {value:.1f}" for place, value in series.values.items()]
    return _polyline(points, told, series.style)


def _polyline(points: Sequence[tuple[float, float]], told: Sequence[str], style: str) -> Element:
    """Return a line through points, and a dot on each one of which something is told."""
    path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    dots = [
        element("circle", element("title", text=text), cx=x, cy=y, r=2.6)
        for (x, y), text in zip(points, told, strict=False)
    ]
    return element("g", element("polyline", points=path), *dots, class_=f"line {style}")


def _epoch_ticks(across: Axis, last: float) -> list[Element]:
    epochs = [tick for tick in _ticks(0, last) if tick == round(tick) and 1 <= tick <= last]
    texts = [_tick_text(across(e), HEIGHT - BOTTOM + 18, str(round(e))) for e in epochs or [1.0]]
    title = _tick_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, "epoch")
    return [*texts, title]


def _rules(ticks: Sequence[float], up: Axis, width: float) -> list[Element]:
    rules = []
    for tick in ticks:
        y = up(tick)
        rules.append(element("line", class_="rule", x1=LEFT, x2=width - RIGHT, y1=y, y2=y))
        label = element("text", text=_figure(tick), x=LEFT - 7, y=y + 4, text_anchor="end")
        rules.append(label)
    return rules


def _box(bone: str, spread: Sequence[float], x: float, up: Axis) -> Element:
    low, first, middle, third, high = (up(max(value, up.low)) for value in spread)
    told = f"{bone} ({FULL_NAMES[bone]}): median {spread[2]:.3f}, 5 % below {spread[0]:.3f}"
    floor = up.start
    return element(
        "g",
        element("title", text=told),
        element("line", class_="whisker", x1=x, x2=x, y1=low, y2=high),
        element(
            "rect", x=x - 7, width=14.0, y=third, height=max(first - third, 1.0), rx=2.0,
            fill=_rgb(bone), class_="box",
        ),
        element("circle", class_="median", cx=x, cy=middle, r=3.0),
        element(
            "text", text=bone, text_anchor="end",
            transform=f"translate({number(x + 4)} {number(floor + 12)}) rotate(-60)",
        ),
    )  # fmt: skip


def _bar(count: int, low: float, high: float, across: Axis, up: Axis) -> Element:
    left, right, top = across(low), across(high), up(count)
    told = element("title", text=f"{count} hands from {low:.3f} to {high:.3f}")
    wide = max(right - left - 1, 0.5)
    tall = up.start - top
    return element("rect", told, class_="bin", x=left + 0.5, width=wide, y=top, height=tall)


def _tick_text(x: float, y: float, text: str) -> Element:
    return element("text", text=text, x=x, y=y, text_anchor="middle")


def _svg(label: str, width: float, height: float, *children: Element) -> Markup:
    box = f"0 0 {number(width)} {number(height)}"
    root = element("svg", *children, class_="chart", viewBox=box, role="img", aria_label=label)
    return markup(root)


def _ticks(low: float, high: float, *, beyond: bool = False) -> list[float]:
    """Return some round numbers from at or below `low` to about `high`, with `beyond` past it."""
    low = min(low, high - 0.01)
    span = high - low
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * part for part in (1, 2, 5, 10) if power * part >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9) if beyond else math.floor(high / step + 1e-9)
    return [round(step * place, 10) for place in range(first, max(last, first + 1) + 1)]


def _figure(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _rgb(bone: str) -> str:
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[bone])
