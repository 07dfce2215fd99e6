from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hbseg.config.specs import CompileSpec
from hbseg.errors import SpecError
from hbseg.ml.engines import kinds, onnx_export
from hbseg.ml.engines.compile import compile_engine
from hbseg.ml.engines.kinds import KINDS
from hbseg.ml.engines.onnx_export import export_onnx
from tests.engines import SIZE, grey, loaded_model


def test_a_kind_that_this_version_cannot_compile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = {name: kind for name, kind in KINDS.items() if name != "tensorrt"}
    monkeypatch.setattr(kinds, "KINDS", fewer)
    with pytest.raises(SpecError) as raised:
        compile_engine(CompileSpec(engine="tensorrt"), loaded_model(), [grey(0)], tmp_path)
    assert str(raised.value) == (
        "engine tensorrt: this version compiles onnx, eager engines only; use --engine onnx"
    )
    assert raised.value.step_exit_code == 78
    assert not list(tmp_path.iterdir())


def test_weights_too_large_for_one_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MAX_ONNX", 1000)
    model = nn.Linear(251, 1, bias=False, dtype=torch.float32)
    with pytest.raises(SpecError, match="are 1,004 bytes, an ONNX file holds 1,000 at most; choo"):
        export_onnx(model, tmp_path / "model.onnx", batch_size=1, size=SIZE)
