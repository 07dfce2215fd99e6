"""Random changes of a batch: one resampling of image and masks together, then the grey levels.

Every number drawn belongs to one sample of one epoch, whatever batch, process or attempt it lands
in: so a resumed training repeats the undisturbed one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hbseg.config.specs import AugmentBlock

SHADING_CELLS = 4
"""Cells along each side of the grid whose smooth interpolation is the shading."""
SHADING_ADDED = 0.3
"""Share of the shading that is added rather than multiplied."""
MAX_EDGE_TILT = 12.0
"""Degrees by which a collimation edge leans at most."""
DEEPEST_EDGE = 0.45
"""Half-sides that an edge may cut off."""
MAX_CUTOUT = 0.15
"""Half-sides of a rectangle at most."""


class Draws:
    """Random numbers for each sample of a batch, each from its own generator.

    Few numbers are drawn on the CPU, the same for every device that they are put on; noise is
    drawn where it is added, since a CPU would take longer for it than a GPU for the whole step.
    """

    def __init__(self, seeds: Sequence[Sequence[int]], device: torch.device) -> None:
        self._generators = [np.random.default_rng(list(seed)) for seed in seeds]
        self._device = device

    def uniform(self, low: float, high: float) -> Tensor:
        """Return one number for each sample, float32 [B]."""
        values = [generator.uniform(low, high) for generator in self._generators]
        return torch.tensor(values, dtype=torch.float32, device=self._device)

    def happens(self, probability: float) -> Tensor:
        """Return whether an event of this probability happens, bool [B]."""
        return self.uniform(0, 1) < probability

    def normal(self, *shape: int) -> Tensor:
        """Return numbers of deviation 1, float32 [B, *shape]."""
        planes = [g.standard_normal(shape, dtype=np.float32) for g in self._generators]
        return torch.from_numpy(np.stack(planes)).to(self._device)

    def noise(self, *shape: int) -> Tensor:
        """Return numbers of deviation 1, float32 [B, *shape]; other ones on another device."""
        if self._device.type == "cpu":
            return self.normal(*shape)
        seeds = [int(generator.integers(2**62)) for generator in self._generators]
        planes = torch.empty((len(seeds), *shape), device=self._device)
        for plane, seed in zip(planes, seeds, strict=True):
            plane.normal_(generator=torch.Generator(self._device).manual_seed(seed))
        return planes


def augmented(
    images_bhw: Tensor, coverage_bchw: Tensor, block: AugmentBlock, draws: Draws, *, stride: int
) -> tuple[Tensor, Tensor]:
    """Return changed images and their targets.

    Args:
        images_bhw: grey levels, uint8 [B, S, S].
        coverage_bchw: coverage by each bone, uint8 [B, 29, S, S]; 255 is all of a pixel.
        block: strengths.
        draws: the samples' random numbers, on the same device.
        stride: network pixels of one target pixel.

    Returns:
        images, float32 [B, 1, S, S] in grey levels (which may leave 0 to 255), and targets,
        float32 [B, 29, S / stride, S / stride], 0 to 1.
    """
    batch, size = images_bhw.shape[0], images_bhw.shape[-1]
    transform = _affine(block, draws, batch)
    grid = F.affine_grid(transform, [batch, 1, size, size], align_corners=False)
    images = F.grid_sample(
        images_bhw[:, None].float().div_(255), grid, padding_mode="border", align_corners=False
    )
    targets = _resampled_targets(coverage_bchw, transform, size // stride)
    images = _toned(images, block, draws)
    outside = (grid.abs() > 1).any(dim=-1) & draws.happens(block.outside_probability)[:, None, None]
    images = torch.where(outside[:, None], _flat_level(draws), images)
    images, targets = _with_edges(images, targets, block, draws)
    images = _with_cutouts(images, block, draws)
    deviation = block.noise * draws.uniform(0, 1).square()
    images = images + draws.noise(1, size, size) * _per_image(deviation)
    return images * 255, targets


def plain(images_bhw: Tensor, coverage_bchw: Tensor, *, stride: int) -> tuple[Tensor, Tensor]:
    """Return images and targets as `augmented` does, without any change."""
    targets = F.avg_pool2d(coverage_bchw.float().div_(255), stride)
    return images_bhw[:, None].float(), targets


def _affine(block: AugmentBlock, draws: Draws, batch: int) -> Tensor:
    """Return the maps from target to source positions, float32 [B, 2, 3], in half-sides."""
    angle = draws.uniform(-block.rotation, block.rotation).deg2rad()
    zoom = torch.exp(-draws.uniform(math.log(block.smallest_scale), math.log(block.largest_scale)))
    stretch = torch.exp(draws.uniform(-block.aspect, block.aspect))
    mirror = 1 - 2 * draws.happens(block.flip_probability).float()
    shift_x = draws.uniform(-2 * block.shift, 2 * block.shift)
    shift_y = draws.uniform(-2 * block.shift, 2 * block.shift)
    across, along = zoom * stretch, zoom / stretch
    row_x = [mirror * angle.cos() * across, -mirror * angle.sin() * across, shift_x]
    row_y = [angle.sin() * along, angle.cos() * along, shift_y]
    return torch.stack([torch.stack(row_x, dim=1), torch.stack(row_y, dim=1)], dim=1)


def _resampled_targets(coverage_bchw: Tensor, transform: Tensor, size: int) -> Tensor:
    batch = coverage_bchw.shape[0]
    grid = F.affine_grid(transform, [batch, 1, size, size], align_corners=False)
    targets = F.grid_sample(coverage_bchw.float(), grid, padding_mode="zeros", align_corners=False)
    return targets.div_(255)


def _toned(images: Tensor, block: AugmentBlock, draws: Draws) -> Tensor:
    size = images.shape[-1]
    gamma = torch.exp(draws.uniform(-block.gamma, block.gamma))
    images = images.clamp(0, 1) ** _per_image(gamma)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    blur = draws.uniform(-block.sharpness, block.sharpness)
    images = torch.lerp(images, blurred, _per_image(blur))
    strength = block.shading * draws.uniform(0, 1)
    cells = draws.normal(2, SHADING_CELLS, SHADING_CELLS) * _per_image(strength)
    fields = F.interpolate(cells, (size, size), mode="bicubic", align_corners=False)
    images = images * torch.exp(fields[:, :1]) + SHADING_ADDED * fields[:, 1:]
    contrast = torch.exp(draws.uniform(-block.contrast, block.contrast))
    level = draws.uniform(-block.brightness, block.brightness)
    return images * _per_image(contrast) + _per_image(level)


def _flat_level(draws: Draws) -> Tensor:
    """Return a grey level for each image: black, any, or white."""
    kind, level = draws.uniform(0, 1), draws.uniform(0, 1)
    level = torch.where(kind < 0.45, torch.zeros_like(level), level)
    return _per_image(torch.where(kind > 0.8, torch.ones_like(level), level))


def _with_edges(
    images: Tensor, targets: Tensor, block: AugmentBlock, draws: Draws
) -> tuple[Tensor, Tensor]:
    for side in range(4):
        present = draws.happens(block.border_probability)
        tilt = draws.uniform(-MAX_EDGE_TILT, MAX_EDGE_TILT) * draws.happens(0.5)
        angle = (tilt + 90 * side).deg2rad()
        distance = 1 - DEEPEST_EDGE * draws.uniform(0, 1) ** 1.5
        distance = torch.where(present, distance, torch.full_like(distance, math.inf))
        beyond = _along(angle, images.shape[-1]) > distance[:, None, None]
        images = torch.where(beyond[:, None], _flat_level(draws), images)
        beyond = _along(angle, targets.shape[-1]) > distance[:, None, None]
        targets = targets.masked_fill(beyond[:, None], 0)
    return images, targets


def _with_cutouts(images: Tensor, block: AugmentBlock, draws: Draws) -> Tensor:
    axis = _axis(images.shape[-1], images.device)
    for _ in range(2):
        present = draws.happens(block.cutout_probability)
        centre_x, centre_y = draws.uniform(-1, 1), draws.uniform(-1, 1)
        width = draws.uniform(0.02, MAX_CUTOUT) * present
        height = draws.uniform(0.02, MAX_CUTOUT) * present
        columns = (axis[None] - centre_x[:, None]).abs() < width[:, None]
        rows = (axis[None] - centre_y[:, None]).abs() < height[:, None]
        covered = rows[:, None, :, None] & columns[:, None, None, :]
        images = torch.where(covered, _flat_level(draws), images)
    return images


def _along(angle: Tensor, size: int) -> Tensor:
    """Return each pixel's position along a direction, in half-sides, float32 [B, size, size]."""
    axis = _axis(size, angle.device)
    return axis[None, None] * angle.cos()[:, None, None] + (
        axis[None, :, None] * angle.sin()[:, None, None]
    )


def _axis(size: int, device: torch.device) -> Tensor:
    return torch.linspace(-1 + 1 / size, 1 - 1 / size, size, device=device)


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
