from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from hbseg import rle
from hbseg.anatomy import BONES, NUM_BONES
from hbseg.ml.frame import Frame
from hbseg.ml.native import native_runs
from hbseg.ml.thresholds import LEVELS, best_thresholds, dice_at_levels
from hbseg.ml.views import PictureLogits


def smooth_logits(size: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(3 * rng.standard_normal((1, NUM_BONES, 6, 6)).astype(np.float32))
    planes: NDArray[np.float32] = F.interpolate(coarse, (size, size), mode="bicubic")[0].numpy()
    planes[3] = -9  # nowhere, at any level
    return planes


@pytest.mark.parametrize(("height", "width", "size"), [(64, 64, 32), (91, 60, 64), (40, 77, 96)])
def test_dice_at_each_level_is_that_of_the_masks(height: int, width: int, size: int) -> None:
    frame = Frame.of(height, width, size)
    logits = smooth_logits(size, seed=1)
    truth = native_runs(smooth_logits(size, seed=2), frame)
    found = dice_at_levels(PictureLogits(logits, frame.grid(size)), truth)
    assert found.shape == (NUM_BONES, len(LEVELS))
    for number, level in enumerate(LEVELS):
        masks = native_runs(logits, frame, threshold=level)
        expected = [rle.dice(mine, true) for mine, true in zip(masks, truth, strict=True)]
        assert found[:, number].tolist() == pytest.approx(expected, abs=1e-12)


def test_a_truth_beside_the_mask_counts_too() -> None:
    logits = np.full((NUM_BONES, 32, 32), -9, dtype=np.float32)
    logits[0, 4:8, 4:8] = 9
    mask = np.zeros((32, 32), dtype=bool)
    mask[20:24, 20:24] = True
    empty = np.empty((0, 2), dtype=np.int64)
    place = PictureLogits(logits, Frame.of(32, 32, 32).grid(32))
    found = dice_at_levels(place, [rle.runs_of(mask), *[empty] * (NUM_BONES - 1)])
    assert found[0].max() < 1e-4
    assert found[1:].min() == 1.0


def test_the_best_level_is_taken_and_of_equal_ones_the_nearest_to_a_half() -> None:
    sums = np.zeros((NUM_BONES, len(LEVELS)))
    sums[0, LEVELS.index(0.35)] = 2.0
    sums[1, [LEVELS.index(0.1), LEVELS.index(0.8)]] = 1.0
    sums[2, [LEVELS.index(0.4), LEVELS.index(0.6)]] = 1.0
    found = best_thresholds(sums)
    assert [found[bone] for bone in BONES[:4]] == [0.35, 0.8, 0.4, 0.5]
