"""Turns what a report shows into what its page lays out."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Final

from hbseg.anatomy import BONES
from hbseg.report import charts
from hbseg.report.contents import Contents, Stage, StepVersion
from hbseg.report.dice import (
    dice_text,
    dice_view,
    distribution_view,
    means_by_image,
)
from hbseg.report.efficiency import efficiency_view, latency_card
from hbseg.report.evaluation import evaluation_tables
from hbseg.report.flagged import flags_view
from hbseg.report.view import (
    Card,
    Chart,
    FlagsView,
    Folded,
    LineSample,
    ReportView,
    Table,
    TrainingView,
    ViewerView,
)
from hbseg.report.viewer import hand_group, left_out_text, viewer_view
from hbseg.system.clock import parse

SECTIONS: Final = {
    "training": "Training",
    "bones": "Dice per bone",
    "evaluation": "Evaluation on the validation hands",
    "flags": "Flagged test images",
    "hands": "Hands",
    "efficiency": "Efficiency",
    "versions": "Specs and versions",
}
"""Anchor of each section in the page: its heading."""


def report_view(contents: Contents) -> ReportView:
    """Return all that the page of a report lays out."""
    return ReportView(
        run=contents.run,
        finished=_time_text(contents.finished),
        cards=tuple(_cards(contents)),
        sections=SECTIONS,
        num_bones=len(BONES),
        key=_key(contents),
        training=_training(contents.stages),
        dice=dice_view(contents),
        distribution=distribution_view(contents),
        evaluation=evaluation_tables(contents.evaluation) if contents.evaluation else (),
        flags=_flags(contents),
        left_out=_left_out(contents),
        viewer=_viewer(contents),
        is_inferred=contents.num_test_images is not None,
        efficiency=efficiency_view(contents.efficiency) if contents.efficiency else None,
        dataset=contents.dataset,
        versions=_version_table(contents.versions),
        specs=tuple(Folded(f"Spec of {s.name}", s.spec) for s in contents.stages if s.spec),
    )


def _time_text(time: str) -> str:
    """Return an ISO 8601 time of UTC to the minute, or the text as it is."""
    try:
        return parse(time).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return time


def _cards(contents: Contents) -> list[Card]:
    cards = [
        Card(stage.name.capitalize(), dice_text(stage.dice), "mean validation Dice")
        for stage in contents.stages
    ]
    means = means_by_image(contents.validation)
    if means:
        remark = f"mean Dice of {len(means)} validation hands"
        cards.append(Card("Engine", dice_text(fmean(means.values())), remark))
    if contents.num_test_images is not None:
        remark = "with masks in the submission"
        cards.append(Card("Test images", str(contents.num_test_images), remark))
    return cards + ([latency_card(contents.efficiency)] if contents.efficiency else [])


def _key(contents: Contents) -> tuple[LineSample, ...]:
    samples = [
        LineSample(stage.style, f"{stage.name}, {len(stage.epochs)} epochs")
        for stage in contents.stages
    ]
    if contents.validation:
        samples.append(LineSample("engine", "engine"))
    return tuple(samples)


def _training(stages: Sequence[Stage]) -> TrainingView:
    curves = (
        _curve("Loss", stages, lambda epoch: epoch.loss, top=None),
        _curve("Validation Dice", stages, lambda epoch: epoch.dice, top=1.0),
    )
    charted = tuple(chart for chart in curves if chart is not None)
    missing = _missing_stages(stages)
    if not charted:
        missing = ("No metrics of a training.", *(missing if stages else ()))
    return TrainingView(missing, charted)


def _missing_stages(stages: Sequence[Stage]) -> tuple[str, ...]:
    origin = next((stage.init_from for stage in stages if stage.init_from), None)
    started = f": stage 2 started from {origin}" if origin else ""
    sentences = {
        1: f"Stage 1 is not part of this run{started}.",
        2: "Stage 2 is not part of this run.",
    }
    present = {stage.number for stage in stages}
    return tuple(text for number, text in sentences.items() if number not in present)


def _curve(
    name: str, stages: Sequence[Stage], read: charts.Reading, *, top: float | None
) -> Chart | None:
    if all(read(epoch) is None for stage in stages for epoch in stage.epochs):
        return None
    return Chart(name, charts.curve(name, stages, read, top=top))


def _flags(contents: Contents) -> FlagsView | None:
    if contents.flags is None:
        return None
    return flags_view(contents.flags, shows_names=contents.shows_names)


def _left_out(contents: Contents) -> str:
    shown = len(contents.worst) + len(contents.best) + len(contents.hands)
    return left_out_text(shown + contents.num_left_out, shown)


def _viewer(contents: Contents) -> ViewerView:
    return viewer_view(
        (
            hand_group("worst", "Validation hands with the lowest Dice", contents.worst),
            hand_group("best", "Validation hands with the highest Dice", contents.best),
            hand_group("test", "Test hands, whose truth is not known here", contents.hands),
        )
    )


def _version_table(versions: Sequence[StepVersion]) -> Table | None:
    rows = tuple(
        (v.step, _time_text(v.finished), v.code_version, v.spec_hash, v.digest) for v in versions
    )
    heads = ("Step", "Finished", "hbseg", "Spec", "Result")
    caption = "What the markers of the steps say; hashes are shortened"
    return Table(caption, heads, rows) if rows else None
