"""The network: an architecture of segmentation-models-pytorch behind one normalisation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from hbseg.anatomy import NUM_BONES
from hbseg.config.specs import ModelBlock
from hbseg.errors import ContractError, SpecError

MIN_DEVIATION = 1.0
"""Grey levels; an empty picture must not become noise of unit variance."""


class Segmenter(nn.Module):
    """Grey levels in, logits of 29 bones out; masks overlap, so each bone has its own sigmoid."""

    def __init__(self, block: ModelBlock) -> None:
        super().__init__()
        self.network: Any = _network(block)

    def forward(self, images_b1hw: Tensor) -> Tensor:
        """Return logits, [B, 29, H / stride, W / stride], of images in grey levels 0 to 255.

        Args:
            images_b1hw: [B, 1, H, W] of any number type.
        """
        logits: Tensor = self.network(standardised(images_b1hw))
        return logits

    @property
    def head(self) -> nn.Conv2d:
        """The last convolution, whose bias holds the classes' log-odds."""
        layer: nn.Conv2d = self.network.segmentation_head[0]
        return layer

    def set_head_bias(self, log_odds: Tensor) -> None:
        """Start from the classes' log-odds, float32 [29].

        Without it 29 sparse classes stay at zero for hundreds of steps.
        """
        bias = self.head.bias
        if bias is None:
            raise ValueError("the head has no bias")
        with torch.no_grad():
            bias.copy_(log_odds)


def standardised(images_b1hw: Tensor) -> Tensor:
    """Return each image with mean 0 and deviation 1, float32 [B, 1, H, W].

    Exposure and detector change level and contrast from picture to picture; shapes stay.
    """
    images = images_b1hw.float()
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    variance = (images - mean).square().mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) / variance.sqrt().clamp_min(MIN_DEVIATION)


def load_encoder(model: Segmenter, weights: Mapping[str, Tensor]) -> None:
    """Put pretrained encoder weights in; a first layer of three channels is summed to one.

    Raises:
        ContractError: the weights are another encoder's.
    """
    encoder = model.network.encoder
    own = encoder.state_dict()
    adapted = {
        name: value.sum(dim=1, keepdim=True)
        if name in own and value.ndim == 4 and value.shape[1] == 3 and own[name].shape[1] == 1
        else value
        for name, value in weights.items()
        if name in own
    }
    missing = sorted(own.keys() - adapted.keys())
    if missing:
        raise ContractError(f"the encoder weights lack {missing[0]} ({len(missing)} are missing)")
    try:
        encoder.load_state_dict(adapted)
    except RuntimeError as error:
        raise ContractError(f"the encoder weights do not fit: {error}") from None


def _network(block: ModelBlock) -> nn.Module:
    options = {} if block.decoder_channels is None else {"decoder_channels": block.decoder_channels}
    try:
        with warnings.catch_warnings():
            # timm announces its own renames while it imports; nothing of it concerns our models.
            warnings.filterwarnings("ignore", category=FutureWarning, module="timm")
            network: nn.Module = smp.create_model(
                block.architecture,
                encoder_name=block.encoder,
                encoder_weights=None,
                in_channels=1,
                classes=NUM_BONES,
                **options,
            )
    except (KeyError, ValueError, RuntimeError) as error:
        raise SpecError(
            f"model {block.architecture} with encoder {block.encoder} cannot be built: {error}"
        ) from None
    return network if block.output_stride == 1 else _strided(network, block)


def _strided(network: Any, block: ModelBlock) -> nn.Module:
    """Return a U-Net whose decoder ends before its last blocks."""
    if block.architecture != "Unet":
        raise SpecError(
            f"model.output_stride {block.output_stride} goes with Unet, not {block.architecture}"
        )
    left_out = int(math.log2(block.output_stride))
    network.decoder.blocks = network.decoder.blocks[:-left_out]
    channels = network.decoder.blocks[-1].conv2[0].out_channels
    network.segmentation_head[0] = nn.Conv2d(channels, NUM_BONES, kernel_size=3, padding=1)
    strided: nn.Module = network
    return strided
