"""Validation as the leaderboard does it: Dice for each image and bone, at native size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hbseg import rle
from hbseg.anatomy import BONES, NUM_BONES
from hbseg.config.specs import ViewName
from hbseg.data.annotation import runs as true_runs
from hbseg.data.dataset import Dataset
from hbseg.data.shards import Sample
from hbseg.ml.distributed import World
from hbseg.ml.model import Segmenter
from hbseg.ml.predict import runs_of
from hbseg.ml.views import Picture, PictureLogits, View
from hbseg.ml.windows import look_of
from hbseg.runs.progress import Heartbeat


@dataclass(frozen=True)
class ValidationSample:
    """A validation picture as the network sees it, and its true runs at native size."""

    view: View
    runs: list[rle.Runs]


def dice_of_bones(predicted: Sequence[rle.Runs], truth: Sequence[rle.Runs]) -> NDArray[np.float64]:
    """Return the Dice of each bone, float64 [29]."""
    return np.array([rle.dice(mine, true) for mine, true in zip(predicted, truth, strict=True)])


class Validation:
    """Part of the validation fold that this process judges; no sample is counted twice."""

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        size: int,
        world: World,
        heartbeat: Heartbeat | None = None,
        *,
        view: ViewName = "whole",
    ) -> None:
        self._heartbeat = heartbeat or Heartbeat()
        self._world = world
        self._dataset = dataset
        self._samples = samples[world.rank :: world.size]
        self._size = size
        self._look = look_of(view)
        self._keeps = view == "whole"
        self._truths: list[ValidationSample] = []

    def mean_dice(self, model: Segmenter, precision: torch.dtype) -> dict[str, float]:
        """Return each bone's mean Dice over the whole fold, on every process."""
        sums = torch.zeros(NUM_BONES + 1, dtype=torch.float64)
        for truth in self._read():
            logits = self._logits(model, truth.view, precision)
            predicted = runs_of(logits)
            sums[:NUM_BONES] += torch.from_numpy(dice_of_bones(predicted, truth.runs))
            sums[NUM_BONES] += 1
        self._heartbeat.touch(waiting_for_peers=self._world.size > 1)
        total = self._world.sum(sums)
        means = (total[:NUM_BONES] / total[NUM_BONES]).tolist()
        return dict(zip(BONES, means, strict=True))

    def _logits(self, model: Segmenter, view: View, precision: torch.dtype) -> PictureLogits:
        for image_hw in view.crops():
            self._heartbeat.touch()
            found = view.add(self._crop_logits(model, image_hw, precision))
            if found is not None:
                return found
        raise ValueError("the view of a picture has no crops")

    def _crop_logits(self, model: Segmenter, image_hw: Picture, precision: torch.dtype) -> Tensor:
        device = self._world.device
        image = torch.from_numpy(image_hw)[None, None].to(device).float()
        image = image.contiguous(memory_format=torch.channels_last)
        enabled = precision is not torch.float32
        with torch.inference_mode(), torch.autocast(device.type, precision, enabled=enabled):
            logits: Tensor = model(image)[0].float()
        return logits

    def _read(self) -> Iterator[ValidationSample]:
        # Runs and the small picture: about 150 kB each, so that a fold of thousands still fits.
        # Windows are of pictures at native size: they are read again each time.
        if not self._keeps:
            yield from map(self._truth, self._samples)
            return
        if not self._truths:
            self._truths = [self._truth(sample) for sample in self._samples]
        yield from self._truths

    def _truth(self, sample: Sample) -> ValidationSample:
        self._heartbeat.touch()
        picture, polygons = self._dataset.load(sample)
        return ValidationSample(self._look(picture, self._size), true_runs(polygons, sample.shape))
