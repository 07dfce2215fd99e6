from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pytest

from hbseg.anatomy import BONES
from hbseg.report.contents import (
    BoneShape,
    Contents,
    Epoch,
    ReportedHand,
    Stage,
    StepVersion,
)
from hbseg.runs.results import (
    BoneScores,
    Evaluation,
    Flag,
    FlaggedImage,
    FlagKind,
    Flags,
    Interval,
    Scores,
    Slice,
)
from tests.efficiency import document, measured

Make = Callable[..., Contents]


@pytest.fixture
def contents() -> Make:
    """Returns a maker of whole contents; keywords replace parts."""

    def make(**parts: object) -> Contents:
        whole: dict[str, object] = {
            "run": "wrist-1",
            "stages": (stage(1, 6, 0.9), stage(2, 3, 0.95)),
            "validation": {
                (f"image{hand}.png", bone): 0.9 + 0.003 * place - 0.01 * hand
                for hand in range(4)
                for place, bone in enumerate(BONES)
            },
            "evaluation": evaluation(),
            "worst": (hand("image3.png", truth="M0 0l5 0 5 5z"),),
            "best": (hand("image0.png", truth="M0 0l5 0 5 5z"),),
            "hands": (hand("image7.png", without="Pisiform"),),
            "flags": flags("image7.png"),
            "num_test_images": 12,
            "efficiency": document(
                {1: measured({1: 60}), 8: measured({1: 390, 8: 400})},
                measured({1: 120, 2: 220, 4: 430, 8: 800}, memory_mib=800),
            ),
            "versions": (StepVersion("stage1", "2026-01-02T03:04:05+00:00", "0.1", "ab", "cd"),),
            "finished": "2026-01-02T03:04:05+00:00",
            "dataset": "0123456789abcdef",
        }
        return Contents(**(whole | parts))  # type: ignore[arg-type]

    return make


def stage(number: Literal[1, 2], epochs: int, dice: float) -> Stage:
    def epoch(count: int) -> Epoch:
        reached = dice * (1 - math.exp(-count))
        per_bone = {bone: reached - 0.001 * place for place, bone in enumerate(BONES)}
        return Epoch(count, 1 / count, reached, per_bone)

    return Stage(number, tuple(map(epoch, range(1, epochs + 1))), "kind: TrainSpec")


def hand(name: str, *, without: str = "", truth: str = "") -> ReportedHand:
    """A hand of triangles; `without` names a bone with an empty mask."""
    shapes = (
        BoneShape(bone, "" if bone == without else f"M{n} {n}l9 0 9 9z", truth=truth)
        for n, bone in enumerate(BONES)
    )
    return ReportedHand(
        name, b"\xff\xd8jpeg", 900, 700, tuple(shapes), has_truth=bool(truth), flags=("is odd",)
    )


def evaluation() -> Evaluation:
    scores = Scores(
        dice=Interval(mean=0.91, low=0.9, high=0.92),
        hd95_px=Interval(mean=7.25, low=6.0, high=8.5),
        surface_dice_2px=Interval(mean=0.81, low=0.8, high=0.82),
    )
    return Evaluation(
        images=4,
        persons=2,
        scores=scores,
        bones=tuple(BoneScores(bone=bone, scores=scores, missed=1) for bone in BONES),
        slices=(Slice(by="side", name="left", images=2, scores=scores),),
        thresholds=dict.fromkeys(BONES, 0.375),
        dice_at_thresholds=0.9125,
    )


def flags(*images: str) -> Flags:
    """Each image has two flags, the later ones of it the more severe."""
    kinds = (FlagKind.SPLIT, 0.25, "the second part has 30 % of the area"), (
        FlagKind.MISSING, 1.0, "the mask is empty",
    )  # fmt: skip
    found = tuple(
        Flag(kind=kind, bone="Pisiform", severity=severity, text=text)
        for kind, severity, text in kinds
    )
    return Flags(
        images=12, flagged=tuple(FlaggedImage(image=image, flags=found) for image in images)
    )
