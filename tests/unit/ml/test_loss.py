from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hbseg.ml.loss import DICE_SMOOTH, segmentation_loss


def plain_loss(logits: Tensor, targets: Tensor, bce_weight: float, dice_weight: float) -> Tensor:
    """The formula as it is written down, left to autograd, in float64."""
    probabilities = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets)
    shared = (probabilities * targets).sum(dim=(0, 2, 3))
    total = probabilities.square().sum(dim=(0, 2, 3)) + targets.square().sum(dim=(0, 2, 3))
    dice = (2 * shared + DICE_SMOOTH) / (total + DICE_SMOOTH)
    return bce_weight * cross_entropy + dice_weight * (1 - dice).mean()


@pytest.mark.parametrize(("bce_weight", "dice_weight"), [(1.0, 1.0), (1.0, 0.0), (0.0, 2.0)])
def test_loss_and_gradient_are_those_of_the_plain_formula(
    bce_weight: float, dice_weight: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 29, 16, 16, generator=generator) * 4
    targets = torch.rand(3, 29, 16, 16, generator=generator).clamp_min(0.5) * 2 - 1
    mine = logits.clone().requires_grad_()
    exact = logits.double().requires_grad_()
    loss = segmentation_loss(mine, targets, bce_weight=bce_weight, dice_weight=dice_weight)
    (loss * 3).backward()  # type: ignore[no-untyped-call]
    expected = plain_loss(exact, targets.double(), bce_weight, dice_weight)
    (expected * 3).backward()  # type: ignore[no-untyped-call]
    assert mine.grad is not None
    assert exact.grad is not None
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(mine.grad.double(), exact.grad, rtol=1e-4, atol=1e-9)


def test_a_perfect_prediction_costs_next_to_nothing() -> None:
    targets = torch.zeros(1, 29, 8, 8)
    targets[:, :, 2:6, 2:6] = 1
    loss = segmentation_loss(targets * 60 - 30, targets, bce_weight=1.0, dice_weight=1.0)
    assert 0 <= loss.item() < 1e-5


def test_the_best_prediction_of_a_soft_target_is_the_target_itself() -> None:
    targets = torch.full((1, 29, 4, 4), 0.3)
    logits = torch.full_like(targets, torch.logit(torch.tensor(0.3)).item()).requires_grad_()
    segmentation_loss(logits, targets, bce_weight=1.0, dice_weight=1.0).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-5
