from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hbseg.config.specs import CompileSpec
from hbseg.errors import SpecError
from hbseg.ml.engines import onnx_export
from hbseg.ml.engines.compile import compile_engine
from hbseg.ml.engines.onnx_export import export_onnx
from tests.engines import SIZE, grey, loaded_model


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
        (
            CompileSpec(engine="tensorrt"),
            "engine tensorrt: this version compiles onnx engines only; use --engine onnx",
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
