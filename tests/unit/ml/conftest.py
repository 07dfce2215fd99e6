"""A dataset of small drawn hands in memory, where the size of real pictures does not matter."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hbseg.anatomy import BONES
from hbseg.data.annotation import Polygons
from hbseg.data.dataset import Dataset, Part
from hbseg.data.shards import Sample, Span

SIDE = 96
COUNT = 12


class DrawnDataset(Dataset):
    """29 discs on a grid, each a bit elsewhere in every picture; every fourth is held out."""

    def __init__(self) -> None:
        self._drawn = [_sample(number) for number in range(COUNT)]

    @property
    def version(self) -> str:
        """Any text will do."""
        return "drawn"

    def samples(self, part: Part, fold: int = 0) -> list[Sample]:
        """Return the samples of a part."""
        held_out = part == "validation"
        return [sample for sample in self._drawn if (sample.fold == fold) == held_out]

    def load(self, sample: Sample) -> tuple[NDArray[np.uint8], Polygons]:
        """Return picture and polygons."""
        return self.picture(sample), self.polygons(sample)

    def polygons(self, sample: Sample) -> Polygons:
        """Return the discs' outlines."""
        rng = np.random.default_rng(_number(sample))
        angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 7
        centres = [(8 + 15 * (i % 6), 8 + 18 * (i // 6)) for i in range(len(BONES))]
        return {
            bone: [np.round(circle + centre + rng.integers(-2, 3, 2)).astype(np.int32)]
            for bone, centre in zip(BONES, centres, strict=True)
        }

    def picture(self, sample: Sample) -> NDArray[np.uint8]:
        """Return the picture, uint8 [96, 96]."""
        picture = np.full((SIDE, SIDE), 20, dtype=np.uint8)
        for level, outlines in enumerate(self.polygons(sample).values()):
            cv2.fillPoly(picture, outlines, 80 + 5 * level)
        return picture


def _number(sample: Sample) -> int:
    return int(sample.path.removesuffix(".png"))


def _sample(number: int) -> Sample:
    return Sample(
        path=f"{number}.png",
        person=f"ID{number // 2:03d}",
        side="R",
        split="train",
        fold=number % 4,
        height=SIDE,
        width=SIDE,
        shard="shards/train-00000.bin",
        picture=Span(offset=0, length=1),
    )


@pytest.fixture(scope="session")
def drawn() -> DrawnDataset:
    """The dataset of drawn discs."""
    return DrawnDataset()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
