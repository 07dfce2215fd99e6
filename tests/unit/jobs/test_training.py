from __future__ import annotations

import pytest

from hbseg.config.specs import DatasetBlock, ModelBlock, RunBlock, TrainSpec
from hbseg_jobs import training


@pytest.mark.parametrize(
    ("precision", "has_bf16", "warned"),
    [("bf16", False, True), ("bf16", True, False), ("fp32", False, False)],
)
def test_emulated_bfloat16_is_warned_of(
    precision: str,
    has_bf16: bool,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(training, "has_bf16", lambda: has_bf16)
    run = RunBlock.model_validate({"precision": precision})
    training._warn_of_emulation(
        TrainSpec(model=ModelBlock(), dataset=DatasetBlock(version="0" * 16), run=run)
    )
    said = capsys.readouterr().out
    assert ("--set run.precision=fp32 (in a pipeline stage1.run.precision=fp32)" in said) is warned
