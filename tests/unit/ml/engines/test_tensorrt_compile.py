"""What can be said of the TensorRT compiler without TensorRT; tests/tensorrt has the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hbseg.config.specs import CompileSpec, ModelBlock
from hbseg.errors import SpecError
from hbseg.ml.engines import tensorrt_compile
from hbseg.ml.engines.compile import compile_engine
from hbseg.ml.engines.tensorrt_compile import Typed, check_known, remove_ceil_mode
from hbseg.ml.engines.tensorrt_place import Gpu
from hbseg.ml.model import Segmenter
from tests.engines import SIZE, grey, loaded_model

SPEC = CompileSpec(engine="tensorrt")
DEMO = ModelBlock(encoder="tu-test_resnet", decoder_channels=(96, 48, 32, 24, 16), output_stride=2)


def refusal(tmp_path: Path, spec: CompileSpec = SPEC) -> str:
    with pytest.raises(SpecError) as raised:
        compile_engine(spec, loaded_model(), [grey(0)], tmp_path)
    assert raised.value.step_exit_code == 78
    assert not list(tmp_path.iterdir())
    return str(raised.value)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_compile, "this_gpu", lambda: Gpu("NVIDIA L4", "8.9"))


def test_a_machine_without_a_gpu_compiles_no_tensorrt_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_compile, "this_gpu", lambda: None)
    assert refusal(tmp_path) == (
        "a TensorRT engine is compiled on the GPU that runs it, here is no NVIDIA GPU; "
        "use --engine onnx"
    )


@pytest.mark.usefixtures("gpu")
def test_an_image_without_torch_tensorrt_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    assert refusal(tmp_path) == (
        "torch_tensorrt does not load here: import of torch_tensorrt halted; None in sys.modules; "
        "run the step in the tensorrt image, or use --engine onnx"
    )


@pytest.mark.usefixtures("gpu")
def test_another_gpu_than_the_one_that_is_asked_for_compiles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_compile, "load_compiler", lambda: None)
    assert refusal(tmp_path, SPEC.model_copy(update={"device": "NVIDIA H200"})) == (
        "device NVIDIA H200 is asked for, here is NVIDIA L4; "
        "submit where that GPU is, or use --tensorrt-device 'NVIDIA L4'"
    )


def test_an_option_that_the_library_would_ignore_is_a_bug() -> None:
    def convert(program: object, *, disable_tf32: bool = False, **others: Any) -> None:
        """As torch_tensorrt's: it takes anything."""

    check_known(convert, {"disable_tf32": True})
    with pytest.raises(TypeError, match="convert has no option disable_tf_32"):
        check_known(convert, {"disable_tf_32": True})


@pytest.fixture(scope="module")
def network() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(DEMO).eval()


def test_pools_that_round_up_become_equal_ones(network: Segmenter) -> None:
    images = torch.rand(1, 1, SIZE, SIZE) * 255
    program = torch.export.export(network, (images,))
    assert remove_ceil_mode(program) == 3
    assert remove_ceil_mode(program) == 0
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(images), network(images), rtol=0, atol=0)


def test_pools_whose_rounding_matters_stay() -> None:
    class OddPool(nn.Module):
        def forward(self, images_b1hw: Tensor) -> Tensor:
            return torch.nn.functional.avg_pool2d(images_b1hw, 2, ceil_mode=True)

    program = torch.export.export(OddPool(), (torch.zeros(1, 1, 7, 8),))
    assert remove_ceil_mode(program) == 0


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_a_precision_is_that_of_the_arithmetic_alone(network: Segmenter, precision: str) -> None:
    images = torch.full((1, 1, SIZE, SIZE), 255.0)
    images[..., SIZE // 2 :] = 0
    seen: list[torch.dtype] = []
    typed = Typed(network, precision).eval()
    typed.network.encoder.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].dtype)
    )
    with torch.inference_mode():
        found, expected = typed(images), network(images)
    assert found.dtype == torch.float32
    assert seen == [{"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)]
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)
