"""How masks agree with the truth: figures of each image and bone, and their summary.

Means are over all images and bones that have the figure. The 95 % confidence intervals are
percentiles of a cluster bootstrap: persons are drawn with replacement, with all their images,
because two hands of one person are no independent samples (Field and Welsh, "Bootstrapping
clustered data", J. R. Stat. Soc. B 2007).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hbseg import rle
from hbseg.anatomy import BONES
from hbseg.data import annotation
from hbseg.data.dataset import Dataset
from hbseg.data.shards import Sample
from hbseg.documents import Block
from hbseg.ml.bone_shape import wrist_angle
from hbseg.ml.surface import surface_scores
from hbseg.ml.thresholds import best_thresholds
from hbseg.rle import Runs
from hbseg.runs.results import BoneScores, Evaluation, Interval, Scores, Slice

DRAWS: Final = 1000
"""Bootstrap samples."""
SEED: Final = 0
ANGLE_BIN: Final = 20
"""Width of a slice by wrist angle, in degrees; one of them is centred at 0."""
DECIMALS: Final = 6
"""Digits that figures are rounded to: the same on every machine."""
FIGURES: Final = ("dice", "hd95_px", "surface_dice_1px", "surface_dice_2px")
"""Columns of the table, and fields of `Scores`."""
HEADER: Final = ",".join(("image_name", "class", *FIGURES)) + "\n"
_SIDES: Final = {"L": "left", "R": "right"}
_CHUNK: Final = 1 << 20  # random counts that are held at a time

Figure = float | None
Figures = tuple[Figure, ...]
_Group = tuple[Literal["side", "wrist angle"], str, float]


@dataclass(frozen=True)
class TrueHand:
    """What is known of an image of a dataset."""

    runs: list[Runs]
    """Of the 29 true masks, at native size."""
    person: str
    side: Literal["R", "L"]
    wrist_angle: float | None
    """In degrees, positive to the ulna (`hbseg.ml.bone_shape`)."""


Truth = Callable[[str], TrueHand]
"""Path of an image to what is known of it."""


class JudgedImage(Block):
    """The figures of one image, of the 29 bones in class order."""

    person: str
    side: Literal["R", "L"]
    wrist_angle: Figure
    dice: Figures
    hd95_px: Figures
    """None: the bone has no outline, here or in the truth."""
    surface_dice_1px: Figures
    surface_dice_2px: Figures
    missed: tuple[str, ...]
    """Bones that are in the truth and have an empty mask."""

    def rows(self) -> list[str]:
        """Return the figures of each bone as fields of the table; what is None is empty."""
        columns = zip(*(getattr(self, name) for name in FIGURES), strict=True)
        return [",".join("" if x is None else f"{x:.6f}" for x in row) for row in columns]


def dataset_truth(dataset: Dataset, samples: Sequence[Sample]) -> Truth:
    """Return a function from an image's path to what the dataset knows of it."""
    by_path = {sample.path: sample for sample in samples}

    def truth(path: str) -> TrueHand:
        sample = by_path[path]
        runs = annotation.runs(dataset.polygons(sample), sample.shape)
        return TrueHand(runs, sample.person, sample.side, wrist_angle(runs, *sample.shape))

    return truth


def judge(predicted: Sequence[Runs], truth: TrueHand, height: int, width: int) -> JudgedImage:
    """Return the figures of an image of `height` x `width` pixels."""
    pairs = list(zip(predicted, truth.runs, strict=True))
    surfaces = [surface_scores(mine, true, height, width) for mine, true in pairs]
    return JudgedImage(
        person=truth.person,
        side=truth.side,
        wrist_angle=truth.wrist_angle,
        dice=tuple(rle.dice(mine, true) for mine, true in pairs),
        hd95_px=tuple(s and s.hd95_px for s in surfaces),
        surface_dice_1px=tuple(s and s.surface_dice_1px for s in surfaces),
        surface_dice_2px=tuple(s and s.surface_dice_2px for s in surfaces),
        missed=tuple(
            bone
            for bone, (mine, true) in zip(BONES, pairs, strict=True)
            if len(true) and not len(mine)
        ),
    )


@dataclass
class _Persons:
    """Sums of the figures of a group of images, by person: all that the bootstrap needs."""

    images: int = 0
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Person: [2, 4, 29], the sum of each figure and bone, and how many values it has."""

    def add(self, person: str, figures: NDArray[np.float64]) -> None:
        """Add an image's figures, [2, 4, 29]."""
        self.images += 1
        self.sums[person] = self.sums.get(person, 0.0) + figures

    def table(self) -> NDArray[np.float64]:
        """Return [persons, 2, 4, 29], in the order of the persons' names."""
        return np.stack([self.sums[person] for person in sorted(self.sums)])


class Tally:
    """Adds up the figures of images; its memory grows with persons, not with images."""

    def __init__(self) -> None:
        self._all = _Persons()
        self._groups: dict[_Group, _Persons] = {}
        self._missed = dict.fromkeys(BONES, 0)

    @property
    def mean_dice(self) -> float:
        """Mean Dice over images and bones, not rounded."""
        total = self._all.table()[:, :, 0].sum(axis=(0, 2))
        return float(total[0] / total[1])

    def add(self, images: Iterable[JudgedImage]) -> None:
        """Add images."""
        for image in images:
            figures = _with_counts(image)
            self._all.add(image.person, figures)
            for group in _groups(image):
                self._groups.setdefault(group, _Persons()).add(image.person, figures)
            for bone in image.missed:
                self._missed[bone] += 1

    def evaluation(self, dice_sums: NDArray[np.float64]) -> Evaluation:
        """Return the summary of at least one image.

        `dice_sums` is the sum of `dice_at_levels` over them, [29, levels].
        """
        table = self._all.table()
        best = dice_sums.max(axis=1) / self._all.images
        return Evaluation(
            images=self._all.images,
            persons=len(table),
            scores=_scores(_over_bones(table))[0],
            bones=tuple(
                BoneScores(bone=bone, scores=scores, missed=self._missed[bone])
                for bone, scores in zip(BONES, _scores(table), strict=True)
            ),
            slices=tuple(self._slices()),
            thresholds=best_thresholds(dice_sums),
            dice_at_thresholds=round(min(float(best.mean()), 1.0), DECIMALS),
        )

    def _slices(self) -> Iterator[Slice]:
        for (by, name, _), persons in sorted(self._groups.items(), key=_order):
            scores = _scores(_over_bones(persons.table()))[0]
            yield Slice(by=by, name=name, images=persons.images, scores=scores)


def bootstrap_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], draws: int = DRAWS, seed: int = SEED
) -> NDArray[np.float64]:
    """Return the mean of each column in bootstrap samples of persons, float64 [draws, columns].

    NaN where no drawn person has a value.

    Args:
        sums: of each person's values, [persons, columns].
        counts: how many values they have, [persons, columns].
        draws: samples; each has as many persons as there are.
        seed: of the random numbers.
    """
    persons = len(sums)
    rng = np.random.default_rng(seed)
    values = np.hstack([sums, counts])
    at_once = max(1, _CHUNK // persons)
    totals: list[NDArray[np.float64]] = [
        rng.multinomial(persons, np.full(persons, 1 / persons), size=min(at_once, draws - start))
        @ values
        for start in range(0, draws, at_once)
    ]
    drawn_sums, drawn_counts = np.split(np.concatenate(totals), 2, axis=1)
    means: NDArray[np.float64] = np.full(drawn_sums.shape, np.nan)
    np.divide(drawn_sums, drawn_counts, out=means, where=drawn_counts > 0)
    return means


def _scores(table: NDArray[np.float64]) -> list[Scores]:
    """Return the scores of each column of a table [persons, 2, 4, columns]."""
    persons, _, figures, columns = table.shape
    sums, counts = (table[:, part].reshape(persons, -1) for part in (0, 1))
    drawn = bootstrap_means(sums, counts).reshape(-1, figures, columns)
    totals = table.sum(axis=0)
    return [
        Scores.model_validate(
            {
                name: _interval(totals[:, number, column], drawn[:, number, column])
                for number, name in enumerate(FIGURES)
            }
        )
        for column in range(columns)
    ]


def _interval(total: NDArray[np.float64], drawn: NDArray[np.float64]) -> Interval | None:
    """Return the mean of a figure and its interval; None where no image has it."""
    if not total[1]:
        return None
    low, high = np.percentile(drawn[np.isfinite(drawn)], (2.5, 97.5)).tolist()
    mean, low, high = (round(value, DECIMALS) for value in (float(total[0] / total[1]), low, high))
    return Interval(mean=mean, low=low, high=high)


def _with_counts(image: JudgedImage) -> NDArray[np.float64]:
    """Return [2, 4, 29]: each figure, 0 where it is None, and whether it is there."""
    rows = [[math.nan if x is None else x for x in getattr(image, name)] for name in FIGURES]
    figures = np.array(rows)
    there = np.isfinite(figures)
    return np.stack([np.where(there, figures, 0.0), there])


def _over_bones(table: NDArray[np.float64]) -> NDArray[np.float64]:
    summed: NDArray[np.float64] = table.sum(axis=3, keepdims=True)
    return summed


def _groups(image: JudgedImage) -> Iterator[_Group]:
    """Yield by what, as what, and in which place an image is in a slice."""
    yield "side", _SIDES[image.side], 0.0
    if image.wrist_angle is not None:
        low = ANGLE_BIN * math.floor(image.wrist_angle / ANGLE_BIN + 0.5) - ANGLE_BIN // 2
        yield "wrist angle", f"{low} to {low + ANGLE_BIN} degrees", low


def _order(item: tuple[_Group, Any]) -> tuple[str, float, str]:
    by, name, place = item[0]
    return by, place, name
