"""What the templates of a report lay out: figures as text, charts as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Card:
    """One figure of the summary."""

    name: str
    figure: str
    remark: str


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its head."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_prose: bool = False
    """Whether its cells are sentences, which may break."""


@dataclass(frozen=True)
class Chart:
    """A chart below its title."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class Bone:
    """A bone in a legend or in a table."""

    name: str
    """As in a submission."""
    full_name: str
    """As in anatomy."""
    colour: str
    """`#rrggbb`."""


@dataclass(frozen=True)
class LineSample:
    """An entry of the key of charts and tables, which shows or hides a stage or the engine."""

    style: str
    """CSS class."""
    text: str


@dataclass(frozen=True)
class TrainingView:
    """Curves by epoch, or what there is instead."""

    missing: tuple[str, ...]
    """A sentence for each stage that the charts do not show."""
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class BarCell:
    """A Dice with a bar before it."""

    text: str
    width: str | None
    """Percent of the bar's full length; None: not measured, no bar."""
    style: str
    """CSS class."""


@dataclass(frozen=True)
class BoneRow:
    """A bone's Dice in each column."""

    bone: Bone
    cells: tuple[BarCell, ...]


@dataclass(frozen=True)
class BoneGroup:
    """The rows of a group of bones, and the group's mean in each column."""

    name: str
    means: tuple[str, ...]
    rows: tuple[BoneRow, ...]


@dataclass(frozen=True)
class DiceTable:
    """Dice per bone: a column for each stage and one for the engine."""

    caption: str
    heads: tuple[str, ...]
    styles: tuple[str, ...]
    """CSS class of each column but the first."""
    groups: tuple[BoneGroup, ...]


@dataclass(frozen=True)
class WorstBone:
    """A bone with a low Dice."""

    bone: Bone
    dice: str


@dataclass(frozen=True)
class DiceView:
    """Dice per bone, and the bones with the lowest."""

    table: DiceTable
    worst_title: str
    worst: tuple[WorstBone, ...]


@dataclass(frozen=True)
class DistributionView:
    """How Dice spreads over the validation hands."""

    bones: Chart
    hands: Chart
    worst: Table | None
    """Hands with the lowest Dice; None where no image may be named."""


@dataclass(frozen=True)
class FlagsView:
    """Which images a human looks at first."""

    sentence: str
    counts: Table | None
    images: Table | None


@dataclass(frozen=True)
class BoneFigure:
    """A bone's outlines in a picture, as SVG path data; an empty text is not drawn."""

    style: str
    """CSS class of the bone."""
    title: str
    """What a pointer above it shows."""
    prediction: str
    truth: str
    extra: str
    missed: str


@dataclass(frozen=True)
class HandFigure:
    """A picture with masks, and what is written below it."""

    key: str
    """Anchor in the page."""
    name: str
    source: str
    """The picture as a `data:` URL."""
    alt: str
    width: int
    height: int
    bones: tuple[BoneFigure, ...]
    has_truth: bool
    dice: str
    """Mean Dice; empty where it is not known."""
    missing: str
    """The bones with an empty mask as a list; empty where there are none."""
    flags: tuple[str, ...]


@dataclass(frozen=True)
class HandGroup:
    """Pictures under one heading."""

    key: str
    """Anchor in the page."""
    title: str
    hands: tuple[HandFigure, ...]


@dataclass(frozen=True)
class BoneSwitch:
    """A bone that a reader shows or hides."""

    style: str
    """CSS class of what it shows or hides."""
    edge: str
    """Colour of the bone's outlines, `#rrggbb`."""
    bone: Bone


@dataclass(frozen=True)
class SwitchGroup:
    """The switches of a group of bones."""

    name: str
    switches: tuple[BoneSwitch, ...]


@dataclass(frozen=True)
class ViewerView:
    """Pictures, and the switches of what is drawn on them."""

    groups: tuple[HandGroup, ...]
    switches: tuple[SwitchGroup, ...]
    has_truth: bool
    """Whether a picture of it has a truth to compare with."""


@dataclass(frozen=True)
class Folded:
    """A long text that a click opens."""

    title: str
    text: str


@dataclass(frozen=True)
class EfficiencyView:
    """Time and memory of the engines beside the eager network."""

    told: str
    """What the chart shows, as a sentence."""
    key: tuple[LineSample, ...]
    chart: Chart
    times: Table
    networks: Table
    document: str
    """All that was measured, as JSON."""


@dataclass(frozen=True)
class ReportView:
    """All of one report; what was not measured is None or empty."""

    run: str
    finished: str
    cards: tuple[Card, ...]
    sections: Mapping[str, str]
    """Anchor in the page: heading."""
    num_bones: int
    key: tuple[LineSample, ...]
    """What charts and tables compare: the stages and the engine."""
    training: TrainingView
    dice: DiceView | None
    distribution: DistributionView | None
    evaluation: tuple[Table, ...]
    flags: FlagsView | None
    left_out: str
    """Pictures that are not shown, as a sentence; empty where all are."""
    viewer: ViewerView
    is_inferred: bool
    """Whether the run has masks of the test images."""
    efficiency: EfficiencyView | None
    dataset: str
    versions: Table | None
    specs: tuple[Folded, ...]


@dataclass(frozen=True)
class PicturesView:
    """All of one report of pictures without truth."""

    folder: str
    """Where the pictures are."""
    cards: tuple[Card, ...]
    left_out: str
    """What is not shown, as a sentence; empty where all are."""
    flags: FlagsView | None
    missing: Table | None
    """Bones that are missing, with the number of pictures."""
    unreadable: Table | None
    viewer: ViewerView
