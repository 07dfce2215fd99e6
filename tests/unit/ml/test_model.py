from __future__ import annotations

import pytest
import torch

from hbseg.anatomy import NUM_BONES
from hbseg.config.specs import ModelBlock
from hbseg.errors import ContractError, SpecError
from hbseg.ml.model import Segmenter, load_encoder, standardised

SMALL = ModelBlock(encoder="resnet18", decoder_channels=(16, 16, 8, 8, 8))


def test_exposure_and_contrast_of_a_picture_do_not_reach_the_network() -> None:
    images = torch.rand(2, 1, 32, 32) * 100
    torch.testing.assert_close(
        standardised(images), standardised(images * 2 + 30), atol=1e-4, rtol=1e-4
    )


def test_an_empty_picture_does_not_become_noise() -> None:
    image = torch.full((1, 1, 32, 32), 7.0)
    image[0, 0, 0, 0] = 7.01
    assert standardised(image).abs().max() < 0.02


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_logits_have_the_stride_of_the_spec(stride: int) -> None:
    block = SMALL.model_copy(update={"output_stride": stride})
    model = Segmenter(block).eval()
    with torch.inference_mode():
        logits = model(torch.zeros(1, 1, 64, 64))
    assert logits.shape == (1, NUM_BONES, 64 // stride, 64 // stride)


def test_the_head_starts_from_the_log_odds() -> None:
    model = Segmenter(SMALL)
    odds = torch.linspace(-6, -2, NUM_BONES)
    model.set_head_bias(odds)
    assert model.head.bias is not None
    torch.testing.assert_close(model.head.bias.detach(), odds)


def test_a_model_that_cannot_be_built_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="encoder resnet0 cannot be built"):
        Segmenter(ModelBlock(encoder="resnet0"))
    with pytest.raises(SpecError, match="output_stride 2 goes with Unet, not FPN"):
        Segmenter(ModelBlock(architecture="FPN", output_stride=2))


def test_encoder_weights_of_three_channels_are_summed_to_one() -> None:
    donor, model = Segmenter(SMALL), Segmenter(SMALL)
    weights = dict(donor.network.encoder.state_dict())
    first = weights["conv1.weight"]
    weights["conv1.weight"] = torch.cat([first / 2, first / 4, first / 4], dim=1)
    load_encoder(model, weights)
    torch.testing.assert_close(model.network.encoder.state_dict()["conv1.weight"], first)


def test_weights_of_another_encoder_are_refused() -> None:
    weights = dict(Segmenter(SMALL).network.encoder.state_dict())
    removed = weights.pop("layer1.0.conv1.weight")
    with pytest.raises(ContractError, match=r"lack layer1\.0\.conv1\.weight"):
        load_encoder(Segmenter(SMALL), weights)
    weights["layer1.0.conv1.weight"] = removed[:3]
    with pytest.raises(ContractError, match="do not fit"):
        load_encoder(Segmenter(SMALL), weights)
