"""What a step costs on the device alone: augmentation, network, loss, gradients, AdamW.

Left out is what the trainer does besides: reading, pasting labels, clipping, the moving average.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from hbseg.config.specs import AugmentBlock, ModelBlock
from hbseg.ml.augment import Draws, augmented
from hbseg.ml.loss import segmentation_loss
from hbseg.ml.model import Segmenter
from tests.gpu.people import People

ROUNDS, WARM = 30, 8
SHAPES = ((512, 8), (1024, 4), (1024, 8), (1024, 16))
"""Network pixels, images at a time."""


def steps(people: People) -> dict[str, Any]:
    """Return images per second for each shape, with and without deterministic kernels."""
    del people
    device = torch.device("cuda")
    told: dict[str, Any] = {}
    for size, batch in SHAPES:
        for exact in (True, False):
            torch.backends.cudnn.deterministic = exact
            torch.use_deterministic_algorithms(exact, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            torch.cuda.reset_peak_memory_stats()
            row = {"images_per_second": _rate(size, batch, device)}
            row["peak_mib"] = torch.cuda.max_memory_allocated() // 2**20
            row["augment_ms"] = _augment_ms(size, batch, device)
            name = f"{size}x{batch} {'deterministic' if exact else 'any'} kernels"
            told[name] = row
            print(f"{name}: {row}", flush=True)
    return told


def _batch(size: int, batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randint(0, 255, (batch, size, size), dtype=torch.uint8, device=device)
    planes = torch.zeros((batch, 29, size, size), dtype=torch.uint8, device=device)
    planes[:, :, size // 4 : size // 2, size // 4 : size // 2] = 255
    return images, planes


def _augment_ms(size: int, batch: int, device: torch.device) -> float:
    images, planes = _batch(size, batch, device)
    times = []
    for turn in range(12):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        draws = Draws([(0, turn, index) for index in range(batch)], device)
        augmented(images, planes, AugmentBlock(), draws, stride=1)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return round(sorted(times)[6] * 1000, 2)


def _rate(size: int, batch: int, device: torch.device) -> float:
    block = ModelBlock(encoder="resnet34")
    model = Segmenter(block).to(device).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    images, planes = _batch(size, batch, device)
    for turn in range(WARM + ROUNDS):
        if turn == WARM:
            torch.cuda.synchronize()
            begin = time.perf_counter()
        draws = Draws([(0, turn, index) for index in range(batch)], device)
        changed, targets = augmented(
            images, planes, AugmentBlock(), draws, stride=block.output_stride
        )
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(changed.contiguous(memory_format=torch.channels_last))
        loss = segmentation_loss(logits, targets, bce_weight=1.0, dice_weight=1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    return round(ROUNDS * batch / (time.perf_counter() - begin), 1)
