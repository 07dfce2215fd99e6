from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from hbseg import rle
from hbseg.anatomy import NUM_BONES
from hbseg.ml.device_runs import device_runs
from hbseg.ml.frame import Frame, Grid
from hbseg.ml.native import Logits, native_runs

ONE, ALL = 7, 11
"""Bones with a single pixel above the threshold, and with all."""


def random_logits(seed: int, height: int, width: int) -> Logits:
    """Smooth planes with noise: of parts, holes, a pixel, everything and nothing."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, NUM_BONES, 4, 4), generator=generator)
    planes = F.interpolate(coarse, (height, width), mode="bicubic")[0]
    planes = planes * 4 - 2 + 0.7 * torch.randn(planes.shape, generator=generator)
    planes[0] = -3
    planes[ONE] = -3
    planes[ONE, seed % height, -1] = 1.5
    planes[ALL] = 2
    return planes.numpy()


def places(seed: int) -> tuple[Frame | Grid, tuple[int, int]]:
    """Return an odd place of a picture on planes, and the size of these."""
    rng = np.random.default_rng(seed)
    height, width = (int(value) for value in rng.integers(1, 150, 2))
    size = int(rng.choice([32, 48, 64, 96])) // int(rng.choice([1, 2, 4]))
    if seed % 3:
        return Frame.of(height, width, 96), (size, size)
    grid = Grid(height, width, 1 / float(rng.choice([1, 2, 4])), seed % 5, seed % 2)
    return grid, (size, size + 8)


def codes(runs: list[rle.Runs]) -> list[str]:
    return [rle.to_text(each) for each in runs]


def test_runs_from_tensors_are_those_from_arrays() -> None:
    areas = np.zeros(NUM_BONES)
    for seed in range(60):
        place, size = places(seed)
        logits = random_logits(seed, *size)
        thresholds = np.random.default_rng(seed).uniform(0.2, 0.8, NUM_BONES).tolist()

        expected = native_runs(logits, place, threshold=thresholds)
        found = device_runs(torch.from_numpy(logits), place, threshold=thresholds)

        assert codes(found) == codes(expected), seed
        assert rle.area(found[ALL]) == place.height * place.width
        areas += [rle.area(runs) for runs in found]
    assert areas[0] == 0
    assert (areas[1:] > 0).all()


def test_values_that_only_rounding_keeps_from_the_threshold_fall_on_the_same_side() -> None:
    """With thirds as weights the mean of -1 and 2 is 0 but for rounding."""
    steps = np.random.default_rng(0).integers(-9, 10, (NUM_BONES, 48, 48))
    logits, frame = (steps * 0.1).astype(np.float32), Frame.of(3 * 48, 3 * 48, 48)

    found = device_runs(torch.from_numpy(logits), frame)

    assert codes(found) == codes(native_runs(logits, frame))


def test_bones_that_are_all_empty_have_no_runs() -> None:
    logits = torch.full((NUM_BONES, 16, 16), -1.0)

    assert codes(device_runs(logits, Frame.of(33, 20, 64))) == [""] * NUM_BONES


def test_a_bone_in_the_padding_alone_has_no_runs() -> None:
    logits = np.full((NUM_BONES, 32, 32), -1, dtype=np.float32)
    logits[:, :, :4] = 1
    frame = Frame.of(320, 100, 64)

    assert codes(native_runs(logits, frame)) == [""] * NUM_BONES
    assert codes(device_runs(torch.from_numpy(logits), frame)) == [""] * NUM_BONES


def test_each_bone_has_its_own_threshold() -> None:
    logits = torch.full((NUM_BONES, 8, 8), 1.0)  # a probability of 0.731
    thresholds = [0.7, *[0.8] * (NUM_BONES - 1)]
    frame = Frame.of(8, 8, 8)

    for runs in (
        device_runs(logits, frame, threshold=thresholds),
        native_runs(logits.numpy(), frame, threshold=thresholds),
    ):
        assert codes(runs) == ["1 64", *[""] * (NUM_BONES - 1)]
