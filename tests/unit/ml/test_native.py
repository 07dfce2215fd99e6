from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from hbseg import rle
from hbseg.anatomy import NUM_BONES
from hbseg.ml.frame import Frame
from hbseg.ml.native import native_runs


def full_size_masks(logits: NDArray[np.float32], frame: Frame) -> NDArray[np.bool_]:
    """The plain way: every plane interpolated at full size, then cut out and thresholded."""
    full = F.interpolate(torch.from_numpy(logits)[None], (frame.side, frame.side), mode="bilinear")[
        0
    ].numpy()
    rows = slice(frame.top, frame.top + frame.height)
    columns = slice(frame.left, frame.left + frame.width)
    return np.asarray(full[:, rows, columns] > 0)


def smooth_logits(size: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.standard_normal((1, NUM_BONES, 6, 6)).astype(np.float32))
    planes = F.interpolate(coarse, (size, size), mode="bicubic")[0] - 0.8
    return planes.numpy()


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(256, 256, 64), (256, 256, 32), (301, 200, 64), (90, 333, 96), (40, 50, 64)],
)
def test_runs_are_those_of_the_masks_at_full_size(height: int, width: int, size: int) -> None:
    frame = Frame.of(height, width, size)
    for seed in range(3):
        logits = smooth_logits(size, seed)
        masks = full_size_masks(logits, frame)
        differing = 0
        for mask, runs in zip(masks, native_runs(logits, frame), strict=True):
            mine = rle.decode(rle.to_text(runs), (height, width))
            differing += int((mine != mask).sum())
        # Interpolated values within rounding of the threshold may fall on either side.
        assert differing <= 2


def test_logits_at_exact_positions_of_a_power_of_two_agree_in_every_pixel() -> None:
    frame = Frame.of(512, 512, 128)
    logits = (np.random.default_rng(0).integers(-4, 5, (NUM_BONES, 128, 128))).astype(np.float32)
    for mask, runs in zip(full_size_masks(logits, frame), native_runs(logits, frame), strict=True):
        assert rle.encode(mask) == rle.to_text(runs)


def test_a_bone_without_a_positive_logit_has_no_runs() -> None:
    logits = np.full((NUM_BONES, 32, 32), -1, dtype=np.float32)
    assert all(len(runs) == 0 for runs in native_runs(logits, Frame.of(100, 100, 32)))


def test_the_threshold_is_a_probability() -> None:
    logits = np.full((NUM_BONES, 32, 32), 1.0, dtype=np.float32)  # a probability of 0.731
    frame = Frame.of(64, 64, 32)
    assert rle.area(native_runs(logits, frame, threshold=0.73)[0]) == 64 * 64
    assert rle.area(native_runs(logits, frame, threshold=0.74)[0]) == 0
