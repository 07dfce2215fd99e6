"""A second kind of engine, `tests/linear_engine.py`, is one module and one row of `KINDS`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from hbseg.config.specs import CompileSpec
from hbseg.errors import ContractError, SpecError
from hbseg.ml.engines.card import EngineCard
from hbseg.ml.engines.compile import compile_engine
from hbseg.ml.engines.gate import eager_logits
from hbseg.ml.engines.kinds import KINDS
from hbseg.ml.engines.opening import open_engine
from hbseg.runs.engines import ENGINE_KINDS
from hbseg.storage.folder import FolderStore
from tests import linear_engine
from tests.engines import BATCH, SIZE, grey, loaded_model, write_card
from tests.linear_engine import CAPABILITY, ERROR, GPU, WRONG_BONE, LinearEngine

SPEC = CompileSpec(engine="tensorrt", batch_size=BATCH, device=GPU)


@pytest.fixture
def second_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "tensorrt", linear_engine.KIND)


@pytest.fixture
def engine(second_kind: None, tmp_path: Path) -> FolderStore:
    """The folder that the step compile leaves."""
    card = compile_engine(SPEC, loaded_model(), [grey(0), grey(1)], tmp_path, fold=2)
    folder = FolderStore(tmp_path / "engine")
    folder.upload(card.model, tmp_path / card.model)
    write_card(folder, card.to_mapping())
    return folder


def changed(folder: FolderStore, **changes: object) -> None:
    card = EngineCard.from_text(folder.get("engine.json"), source="engine.json")
    write_card(folder, card.to_mapping() | changes)


def test_a_second_kind_is_compiled_opened_and_run(engine: FolderStore, tmp_path: Path) -> None:
    opened = open_engine(
        engine, tmp_path / "work", batch_size=BATCH, kind="tensorrt", device=GPU, threads=3
    )
    assert isinstance(opened, LinearEngine)
    assert opened.threads == 3
    images = np.stack([grey(seed, SIZE, SIZE) for seed in range(3)])
    expected = eager_logits(loaded_model().model, images)
    expected[:, WRONG_BONE] += ERROR
    np.testing.assert_allclose(opened.logits(images), expected, atol=1e-5)


def test_the_card_has_what_the_kind_and_the_network_promise(engine: FolderStore) -> None:
    card = EngineCard.from_text(engine.get("engine.json"), source="engine.json")
    assert (card.backend, card.model, card.precision) == ("tensorrt", "model.lines", "fp32")
    assert (card.device, card.compute_capability) == (GPU, CAPABILITY)
    assert card.versions == {"numpy": np.__version__}
    assert (card.batch_size, card.height, card.width, card.fold) == (BATCH, SIZE, SIZE, 2)
    assert card.checkpoint_sha256 == loaded_model().weights_sha256
    assert card.agreement is not None
    assert card.agreement.pictures == 2
    assert card.agreement.bone == "Trapezium"
    assert card.agreement.largest_near_decision == pytest.approx(ERROR, abs=1e-5)


@pytest.mark.usefixtures("second_kind")
def test_the_gate_holds_for_a_second_kind(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"largest_difference": ERROR / 2})
    with pytest.raises(ContractError, match=r"differ by 0\.001 in the logits of Trapezium "):
        compile_engine(spec, loaded_model(), [grey(0)], tmp_path)


@pytest.mark.usefixtures("second_kind")
def test_a_second_kind_refuses_by_its_own_rules(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"precision": "bf16"})
    with pytest.raises(SpecError, match="precision bf16: linear engines are fp32"):
        compile_engine(spec, loaded_model(), [grey(0)], tmp_path)


@pytest.mark.parametrize(
    ("changes", "asked", "sentence"),
    [
        (
            {},
            {"batch_size": 8, "kind": "tensorrt", "device": GPU},
            "engine was compiled for batch size 4, asked for 8; run: hbseg submit-compile RUN "
            "--engine tensorrt --tensorrt-device 'NVIDIA L4' --batch-size-eval 8",
        ),
        (
            {},
            {"kind": "onnx"},
            "engine was compiled for tensorrt, asked for onnx; run: hbseg submit-compile RUN "
            "--engine onnx --batch-size-eval 4",
        ),
        (
            {},
            {"kind": "tensorrt", "device": "NVIDIA H200"},
            "engine was compiled for device NVIDIA L4, asked for NVIDIA H200; run: hbseg "
            "submit-compile RUN --engine tensorrt --tensorrt-device 'NVIDIA H200' "
            "--batch-size-eval 4",
        ),
        (
            {"versions": {"torch": "2"}},
            {},
            "engine names no version of numpy, expected numpy; run: hbseg submit-compile RUN "
            "--engine tensorrt --tensorrt-device 'NVIDIA L4' --batch-size-eval 4 --again",
        ),
        (
            {"device": "NVIDIA H200"},
            {},
            "engine was compiled for NVIDIA H200, here is NVIDIA L4; run: hbseg submit-compile "
            "RUN --engine tensorrt --tensorrt-device 'NVIDIA L4'",
        ),
        (
            {"backend": "openvino"},
            {},
            "engine was compiled for openvino on NVIDIA L4; this version runs onnx, tensorrt, "
            "eager engines only; run: hbseg submit-compile RUN --engine onnx",
        ),
    ],
)
def test_the_refusals_hold_for_a_second_kind(
    engine: FolderStore,
    tmp_path: Path,
    changes: dict[str, object],
    asked: dict[str, object],
    sentence: str,
) -> None:
    changed(engine, **changes)
    with pytest.raises(ContractError) as raised:
        open_engine(engine, tmp_path / "work", **{"batch_size": BATCH, **asked})  # type: ignore[arg-type]
    assert str(raised.value) == sentence


def test_libraries_are_loaded_in_the_context_that_is_given(
    engine: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    @contextmanager
    def loading() -> Iterator[None]:
        events.append("begin")
        yield
        events.append("end")

    def load_opener() -> type[LinearEngine]:
        events.append("load")
        return LinearEngine

    monkeypatch.setitem(KINDS, "tensorrt", replace(linear_engine.KIND, load_opener=load_opener))
    open_engine(engine, tmp_path / "work", batch_size=BATCH, loading=loading)
    compile_engine(SPEC, loaded_model(), [grey(0)], tmp_path, loading=loading)
    assert events == ["begin", "load", "end"] * 2


def test_a_spec_may_ask_for_each_kind() -> None:
    assert set(KINDS) <= set(get_args(CompileSpec.model_fields["engine"].annotation))


def test_the_control_plane_knows_the_needs_of_every_kind_that_a_spec_may_name() -> None:
    named = get_args(CompileSpec.model_fields["engine"].annotation)

    assert set(ENGINE_KINDS) == set(named)
    assert set(KINDS) <= set(ENGINE_KINDS)
