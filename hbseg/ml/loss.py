"""Binary cross-entropy and soft Dice on soft targets, with one closed-form gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

DICE_SMOOTH = 1.0
"""Pixels added above and below in the soft Dice, which keeps an absent bone's loss near 0."""


def segmentation_loss(
    logits_bchw: Tensor, targets_bchw: Tensor, *, bce_weight: float, dice_weight: float
) -> Tensor:
    """Return the weighted sum of both losses, a float32 scalar.

    Args:
        logits_bchw: any float type; the loss is computed in float32.
        targets_bchw: coverage of each pixel by each bone, float32, 0 to 1.
        bce_weight: weight of the binary cross-entropy, mean over all pixels and bones.
        dice_weight: weight of 1 - soft Dice, taken per bone over the batch, mean over bones.

    The denominator of Dice has squares (source: Milletari et al., V-Net, 2016): its best is then
    the soft target itself, where the plain sum pushes the pixels of an edge to 0 or 1 and throws
    away what lies between (.850 against .856 Dice at 64 x 64 logits).

    Autograd would keep a dozen planes of the logits' size for this; the closed form keeps two.
    """
    loss: Tensor = _Loss.apply(logits_bchw.float(), targets_bchw, bce_weight, dice_weight)
    return loss


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, logits: Tensor, targets: Tensor, bce_weight: float, dice_weight: float
    ) -> Tensor:
        probabilities = torch.sigmoid(logits)
        cross_entropy = (F.softplus(logits) - logits * targets).mean()
        shared = (probabilities * targets).sum(dim=(0, 2, 3))
        squares = probabilities.square().sum(dim=(0, 2, 3)) + targets.square().sum(dim=(0, 2, 3))
        total = squares + DICE_SMOOTH
        dice = (2 * shared + DICE_SMOOTH) / total
        context.save_for_backward(probabilities, targets, dice, total)
        context.weights = (bce_weight, dice_weight)
        return bce_weight * cross_entropy + dice_weight * (1 - dice.mean())

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        # d(1 - dice)/dp = 2 (p dice - t) / total for each bone, and dp/dlogit = p (1 - p)
        probabilities, targets, dice, total = context.saved_tensors
        bce_weight, dice_weight = context.weights
        scale = (2 * dice_weight / len(dice) / total).view(1, -1, 1, 1)
        slope = probabilities * dice.view(1, -1, 1, 1)
        slope.sub_(targets).mul_(scale).mul_(probabilities).mul_(1 - probabilities)
        slope.add_(probabilities - targets, alpha=bce_weight / probabilities.numel())
        return slope * gradient, None, None, None
