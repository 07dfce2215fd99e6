"""What a report shows, as plain values: read by the page, filled by `hbseg.report.build`.

Dice is between 0 and 1; whatever could not be measured is None, never NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from hbseg.runs.results import Efficiency, Evaluation, Flags


@dataclass(frozen=True)
class Epoch:
    """One line of `metrics.jsonl`."""

    epoch: int
    loss: float | None = None
    dice: float | None = None
    """Mean validation Dice; None where the epoch was not validated."""
    dice_per_bone: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A training stage."""

    number: Literal[1, 2]
    epochs: tuple[Epoch, ...] = ()
    spec: str = ""
    """YAML."""
    init_from: str | None = None
    """Checkpoint folder that it started from; None: encoder weights, or stage 1 of its run."""

    @property
    def name(self) -> str:
        """What people call it: `stage 1` or `stage 2`."""
        return f"stage {self.number}"

    @property
    def style(self) -> str:
        """CSS class of its lines and bars."""
        return f"stage{self.number}"

    @property
    def best(self) -> Epoch | None:
        """The epoch with the highest Dice, whose weights are the stage's result."""
        validated = [epoch for epoch in self.epochs if epoch.dice is not None]
        return max(validated, key=lambda epoch: epoch.dice or 0.0, default=None)

    @property
    def dice(self) -> float | None:
        """Mean validation Dice of the best epoch."""
        return self.best.dice if self.best else None

    @property
    def dice_per_bone(self) -> Mapping[str, float]:
        """Dice per bone of the best epoch."""
        return self.best.dice_per_bone if self.best else {}


@dataclass(frozen=True)
class BoneShape:
    """The outlines of a bone in one picture as SVG path data; an empty text is an empty mask."""

    bone: str
    prediction: str
    truth: str = ""
    extra: str = ""
    """Predicted and not true."""
    missed: str = ""
    """True and not predicted."""
    dice: float | None = None


@dataclass(frozen=True)
class ReportedHand:
    """A picture and its masks."""

    name: str
    jpeg: bytes
    """The gray picture, at a reduced size."""
    width: int
    """In pixels of the picture itself, as are the outlines."""
    height: int
    shapes: tuple[BoneShape, ...]
    """All bones in class order."""
    has_truth: bool = False
    flags: tuple[str, ...] = ()
    """Why a human should look at it, the most severe reason first."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Bones with an empty mask."""
        return tuple(shape.bone for shape in self.shapes if not shape.prediction)

    @property
    def dice(self) -> float | None:
        """Mean Dice of the measured bones."""
        measured = [shape.dice for shape in self.shapes if shape.dice is not None]
        return fmean(measured) if measured else None


@dataclass(frozen=True)
class StepVersion:
    """What the marker of a step says."""

    step: str
    finished: str
    code_version: str
    spec_hash: str
    digest: str


@dataclass(frozen=True)
class Contents:
    """All of one report."""

    run: str
    stages: tuple[Stage, ...] = ()
    """Those that are part of the run."""
    validation: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Dice of the engine by image and bone, on the validation split."""
    evaluation: Evaluation | None = None
    """What else was measured there."""
    worst: tuple[ReportedHand, ...] = ()
    """Validation hands with the lowest mean Dice, the lowest first."""
    best: tuple[ReportedHand, ...] = ()
    """Validation hands with the highest mean Dice, the highest first."""
    hands: tuple[ReportedHand, ...] = ()
    """Test hands."""
    num_left_out: int = 0
    """Hands of all three kinds that did not fit into the page."""
    flags: Flags | None = None
    """Those of the test images."""
    shows_names: bool = True
    """Whether images may be named; a report without pictures names none."""
    num_test_images: int | None = None
    """Images in the submission; None: the run has none."""
    efficiency: Efficiency | None = None
    versions: tuple[StepVersion, ...] = ()
    finished: str = ""
    """End of the latest step, ISO 8601."""
    dataset: str = ""
    """Hash of the dataset version."""
