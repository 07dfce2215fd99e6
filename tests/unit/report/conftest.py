from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pytest

from hbseg.anatomy import BONES
from hbseg.report.contents import Contents, Epoch, ReportedHand, Stage, StepVersion
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
            "hands": (ReportedHand("image7.png", b"\xff\xd8jpeg", 900, 700, ("Pisiform",)),),
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
