from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hbseg.anatomy import NUM_BONES
from hbseg.config.specs import CompileSpec
from hbseg.errors import ContractError, SpecError
from hbseg.ml.engines import onnx_export
from hbseg.ml.engines.card import Images, Logits
from hbseg.ml.engines.compile import agreement_of, check_agreement, compile_engine
from hbseg.ml.engines.onnx_export import export_onnx
from hbseg.ml.engines.reference import eager_logits
from tests.engines import BATCH, SIZE, LinearNetwork, engine_card, grey, loaded_model


class Spoiled:
    """The network itself with something wrong in one pixel of one bone's logits."""

    def __init__(self, bone: int, offset: float) -> None:
        self.model = LinearNetwork()
        self.card = engine_card()
        self.bone, self.offset = bone, offset

    def logits(self, images_bhw: Images) -> Logits:
        assert len(images_bhw) <= self.card.batch_size
        logits = eager_logits(self.model, images_bhw).copy()
        logits[-1, self.bone, 5, 7] += self.offset
        return logits


def test_the_gate_names_the_bone_and_the_figures() -> None:
    engine = Spoiled(bone=19, offset=0.75)
    images = np.stack([grey(seed, SIZE, SIZE) for seed in range(6)])
    agreement = agreement_of(engine.model, engine, images)
    assert agreement.bone == "Trapezium"
    assert agreement.largest_difference == pytest.approx(0.75, abs=1e-4)
    assert agreement.pictures == 6
    check_agreement(agreement, accepted=0.8)
    with pytest.raises(ContractError) as raised:
        check_agreement(agreement, accepted=0.05)
    assert str(raised.value) == (
        "engine and network differ by 0.75 in the logits of Trapezium, accepted is 0.05 (Dice of "
        f"their masks: {agreement.dice:.4f}); accept more with --set largest_difference=X, or "
        "compile with precision=fp32"
    )
    assert raised.value.step_exit_code == 76


@pytest.mark.parametrize("offset", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_do_not_pass_the_gate(offset: float) -> None:
    engine = Spoiled(bone=28, offset=offset)
    agreement = agreement_of(engine.model, engine, grey(0, SIZE, SIZE)[None])
    assert agreement.bone == "Ulna"
    with pytest.raises(ContractError, match="in the logits of Ulna"):
        check_agreement(agreement, accepted=1e6)


def test_the_dice_of_the_gate_is_that_of_the_masks() -> None:
    engine = Spoiled(bone=3, offset=0.0)
    image = grey(1, SIZE, SIZE)[None]
    assert agreement_of(engine.model, engine, image).dice == pytest.approx(1.0)
    plane = eager_logits(engine.model, image)[0, 3]
    area = int((plane > 0).sum())
    engine.offset = -1000.0 if plane[5, 7] > 0 else 1000.0
    other = area + (1 if plane[5, 7] <= 0 else -1)
    expected = (28 + 2 * min(area, other) / (area + other)) / NUM_BONES
    assert agreement_of(engine.model, engine, image).dice == pytest.approx(expected, abs=1e-6)


def test_the_gate_takes_any_number_of_pictures_in_batches() -> None:
    engine = Spoiled(bone=0, offset=1.0)
    for number in range(1, 2 * BATCH + 2):
        images = np.stack([grey(seed, SIZE, SIZE) for seed in range(number)])
        agreement = agreement_of(engine.model, engine, images)
        assert agreement.pictures == number
        assert agreement.largest_difference == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            CompileSpec(precision="fp16"),
            "precision fp16: onnx engines are fp32; set precision=fp32",
        ),
        (
            CompileSpec(precision="bf16"),
            "precision bf16: onnx engines are fp32; set precision=fp32",
        ),
        (
            CompileSpec(device="NVIDIA L4"),
            "device NVIDIA L4: onnx engines run on any CPU; leave the device out",
        ),
    ],
)
def test_what_cannot_be_compiled_is_refused(
    tmp_path: Path, spec: CompileSpec, sentence: str
) -> None:
    with pytest.raises(SpecError) as raised:
        compile_engine(spec, loaded_model(), [grey(0)], tmp_path)
    assert str(raised.value) == sentence
    assert raised.value.step_exit_code == 78
    assert not list(tmp_path.iterdir())


def test_weights_too_large_for_one_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MAX_ONNX", 1000)
    model = nn.Linear(251, 1, bias=False, dtype=torch.float32)
    with pytest.raises(SpecError, match="are 1,004 bytes, an ONNX file holds 1,000 at most; choo"):
        export_onnx(model, tmp_path / "model.onnx", batch_size=1, size=SIZE)
