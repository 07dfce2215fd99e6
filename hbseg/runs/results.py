"""Documents that steps leave for people, for the report and for the command line.

The steps that make them are in `hbseg.ml`; who reads them needs no torch. Lengths are in pixels of
the picture, times in milliseconds, memory in MiB; what could not be measured is None, never NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from hbseg.documents import Block, Count, Document

FLAGS: Final = "flags.json"
"""Beside `submission.csv`: the images that a human looks at first."""
EVALUATION: Final = "evaluation.json"
"""In the mode valid: the summary of `evaluation.csv`."""
EVALUATION_TABLE: Final = "evaluation.csv"
"""In the mode valid: every figure of each image and bone."""
EFFICIENCY: Final = "efficiency.json"
REPORT: Final = "report.html"
"""Of a run, or in the mode images of the pictures."""
PICTURES: Final = "pictures.json"
"""In the mode images: what was read of the pictures."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class PictureRecord(Block):
    """A picture whose masks were made."""

    path: str
    height: int
    width: int


class UnreadableRecord(Block):
    """A picture that was left out."""

    path: str
    problem: str


class Pictures(Document):
    """`pictures.json`: the pictures of a folder; those that are in the CSV come first."""

    kind: Literal["Pictures"] = "Pictures"
    folder: str
    """As `InferSpec.images` has it."""
    pictures: tuple[PictureRecord, ...]
    unreadable: tuple[UnreadableRecord, ...]


class FlagKind(StrEnum):
    """Why a human should look at an image."""

    MISSING = "missing"
    """A bone has an empty mask."""
    SPLIT = "split"
    """A bone is in two large parts."""
    RAY_ORDER = "ray-order"
    """The rays (fingers) are not in their order from thumb to little finger."""
    FAR = "far"
    """A bone is far from its neighbours."""
    LOW_CONFIDENCE = "low-confidence"
    """The network is unsure of a bone."""


class Flag(Block):
    """One reason to look at an image."""

    kind: FlagKind
    bone: str
    """Bone that it concerns; of an order, the first that is out of it."""
    severity: Share
    """How far the figure is beyond its limit; flagged images are sorted by their largest."""
    text: str
    """The reason as a clause for people, with its figure."""


class FlaggedImage(Block):
    """An image with at least one flag."""

    image: str
    """Name in the CSV."""
    flags: Annotated[tuple[Flag, ...], Field(min_length=1)]

    @property
    def severity(self) -> float:
        """Largest severity of its flags."""
        return max(flag.severity for flag in self.flags)


class Flags(Document):
    """`flags.json`: which images a human looks at first."""

    kind: Literal["Flags"] = "Flags"
    images: Annotated[int, Field(ge=0)]
    """Images that were judged."""
    flagged: tuple[FlaggedImage, ...] = ()
    """The most severe first."""


class Interval(Block):
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class Scores(Block):
    """How masks agree with the truth."""

    dice: Interval
    hd95_px: Interval | None = None
    """95th percentile of the distances between both outlines (symmetric: the larger one). None:
    no image has both outlines."""
    surface_dice_1px: Interval | None = None
    """Share of both outlines that is at most 1 pixel from the other one."""
    surface_dice_2px: Interval | None = None


class BoneScores(Block):
    """The scores of one bone over all images."""

    bone: str
    scores: Scores
    missed: int
    """Images with the bone in the truth and an empty mask."""


class Slice(Block):
    """The scores of a part of the images."""

    by: Literal["side", "wrist angle"]
    name: str
    """E.g. `left`, or `-10 to 10 degrees`."""
    images: Count
    scores: Scores


class Evaluation(Document):
    """`evaluation.json`: the engine on the validation fold. The bootstrap draws persons."""

    kind: Literal["Evaluation"] = "Evaluation"
    images: Count
    persons: Count
    scores: Scores
    """Over all images and bones."""
    bones: tuple[BoneScores, ...]
    """In class order."""
    slices: tuple[Slice, ...]
    thresholds: dict[str, Share]
    """By bone: the probability above which a pixel belongs to it, where Dice is highest here."""
    dice_at_thresholds: Share
    """Mean Dice at those thresholds; optimistic: they were chosen on these very images."""


class Latency(Block):
    """Times of one call; percentiles interpolate between the sorted times."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    images_per_second: float
    """Images of the call over the mean time."""
    counted: Count
    """Calls that were counted: fewer than asked for where they take long."""


class Measured(Block):
    """One network, as an engine or eager."""

    device: str = "cpu"
    """Name of the GPU that it ran on, or `cpu`."""
    load_ms: float
    """From the files on the local disk to the end of the first call, of one image; its libraries
    are loaded before."""
    memory_mib: float
    """Largest memory of the network's own during the calls: on a GPU what it allocates there, on a
    CPU what the process holds above what it held before the network was loaded, with its libraries.
    """
    calls: Annotated[dict[int, Latency], Field(min_length=1)]
    """By the number of images of a call."""


class Efficiency(Document):
    """`efficiency.json`: what was measured, where, and with what."""

    kind: Literal["Efficiency"] = "Efficiency"
    image_size: Count
    warmup: int
    iterations: int
    threads: int
    processor: str
    """CPU, and the GPU where one computes."""
    backend: str
    """Kind of the engines."""
    precision: str
    """Of the engines; the eager network is fp32."""
    versions: dict[str, str]
    engines: dict[int, Measured]
    """By compiled batch size."""
    eager: Measured

    @property
    def speedups(self) -> Iterator[tuple[int, float]]:
        """Yield each compiled batch size, and eager's median time over the engine's there."""
        for batch, engine in self.engines.items():
            if batch in self.eager.calls and batch in engine.calls:
                yield batch, self.eager.calls[batch].p50_ms / engine.calls[batch].p50_ms
