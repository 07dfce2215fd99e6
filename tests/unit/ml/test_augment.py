from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hbseg.anatomy import NUM_BONES
from hbseg.config.specs import AugmentBlock
from hbseg.ml.augment import Draws, augmented, plain

OFF = AugmentBlock(
    flip_probability=0,
    rotation=0,
    smallest_scale=1,
    largest_scale=1,
    aspect=0,
    shift=0,
    gamma=0,
    sharpness=0,
    shading=0,
    contrast=0,
    brightness=0,
    noise=0,
    outside_probability=0,
    border_probability=0,
    cutout_probability=0,
)


def blobs(batch: int, size: int = 64) -> tuple[Tensor, Tensor]:
    """Images of one bright disc, which the coverage of the first bone describes."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:size, 0:size]
    coverage = np.zeros((batch, NUM_BONES, size, size), dtype=np.uint8)
    for planes in coverage:
        centre = rng.uniform(0.3 * size, 0.7 * size, 2)
        planes[0][(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (0.15 * size) ** 2] = 255
    images = coverage.max(axis=1)
    return torch.from_numpy(images), torch.from_numpy(coverage)


def draws(*seeds: int) -> Draws:
    return Draws([(0, 0, seed) for seed in seeds], torch.device("cpu"))


def test_all_strengths_at_zero_change_nothing() -> None:
    images, coverage = blobs(2)
    changed, targets = augmented(images, coverage, OFF, draws(0, 1), stride=1)
    same, same_targets = plain(images, coverage, stride=1)
    torch.testing.assert_close(changed, same, atol=0.01, rtol=0)
    torch.testing.assert_close(targets, same_targets, atol=1e-4, rtol=0)


def test_targets_of_a_larger_stride_are_means() -> None:
    images, coverage = blobs(1)
    _, fine = augmented(images, coverage, OFF, draws(0), stride=1)
    _, coarse = augmented(images, coverage, OFF, draws(0), stride=2)
    torch.testing.assert_close(coarse, F.avg_pool2d(fine, 2), atol=1e-4, rtol=0)


def test_image_and_masks_move_together() -> None:
    images, coverage = blobs(4)
    block = OFF.model_copy(
        update={"flip_probability": 0.5, "rotation": 30, "shift": 0.1, "largest_scale": 1.3}
    )
    moved, targets = augmented(images, coverage, block, draws(1, 2, 3, 4), stride=1)
    drawn = targets.amax(dim=1, keepdim=True)
    assert (moved / 255 - drawn).abs().max() < 1e-3
    assert (moved - images[:, None].float()).abs().mean() > 5


def test_a_sample_is_changed_alike_in_whatever_batch_it_lands() -> None:
    images, coverage = blobs(3)
    together, targets = augmented(images, coverage, AugmentBlock(), draws(7, 8, 9), stride=2)
    alone, alone_targets = augmented(images[1:2], coverage[1:2], AugmentBlock(), draws(8), stride=2)
    torch.testing.assert_close(together[1:2], alone, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(targets[1:2], alone_targets, atol=1e-5, rtol=1e-5)


def test_bones_beyond_an_edge_leave_the_masks() -> None:
    images, coverage = blobs(1)
    coverage.fill_(255)
    block = OFF.model_copy(update={"border_probability": 1.0})
    _, targets = augmented(images, coverage, block, draws(5), stride=1)
    assert 0.1 < targets.mean() < 0.99


@pytest.mark.parametrize("seed", range(20))
def test_every_draw_gives_finite_images_and_targets_between_0_and_1(seed: int) -> None:
    images, coverage = blobs(2)
    changed, targets = augmented(images, coverage, AugmentBlock(), draws(seed, 99), stride=2)
    assert torch.isfinite(changed).all()
    assert targets.min() >= 0
    assert targets.max() <= 1 + 1e-5
    assert changed.shape == (2, 1, 64, 64)
    assert targets.shape == (2, NUM_BONES, 32, 32)
