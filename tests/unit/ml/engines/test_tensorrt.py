"""TensorRT engines without a GPU: refusals are real, what runs is `tests/stand_in_tensorrt.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hbseg.anatomy import BONES
from hbseg.errors import ContractError
from hbseg.ml.engines.card import DeviceEngine, EngineCard, Images
from hbseg.ml.engines.gate import eager_logits
from hbseg.ml.engines.kinds import KINDS
from hbseg.ml.engines.opening import open_engine
from hbseg.ml.engines.tensorrt import TensorRtEngine
from hbseg.ml.engines.tensorrt_plan import plan_header
from hbseg.storage.folder import FolderStore
from tests import stand_in_tensorrt
from tests.engines import BATCH, SIZE, LinearNetwork, grey, write_card
from tests.stand_in_tensorrt import L4, VERSION, TensorRt, plan, write_plan

AGAIN = "run: hbseg submit-compile RUN"
ON_L4 = f"{AGAIN} --engine tensorrt --tensorrt-device 'NVIDIA L4' --batch-size-eval 4 --again"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    return stand_in_tensorrt.install(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "engine")


def stored(folder: FolderStore, work: Path, data: bytes | None = None, **changes: Any) -> None:
    """Leave an engine in a run, as the step compile does."""
    card = write_plan(work / "model.engine", data, **changes)
    folder.upload(card.model, work / card.model)
    write_card(folder, card.to_mapping())


def images(number: int, seed: int = 0) -> Images:
    return np.stack([grey(seed + index, SIZE, SIZE) for index in range(number)])


def opened(folder: FolderStore, tmp_path: Path, **asked: Any) -> TensorRtEngine:
    engine = open_engine(folder, tmp_path / "work", **{"batch_size": BATCH, **asked})
    assert isinstance(engine, TensorRtEngine)
    return engine


def refusal(folder: FolderStore, tmp_path: Path, **asked: Any) -> str:
    with pytest.raises(ContractError) as raised:
        opened(folder, tmp_path, **asked)
    assert raised.value.step_exit_code == 76
    return str(raised.value)


@pytest.mark.usefixtures("module")
def test_an_engine_is_opened_from_storage_and_run(folder: FolderStore, tmp_path: Path) -> None:
    stored(folder, tmp_path)
    engine = opened(
        folder,
        tmp_path,
        kind="tensorrt",
        device=L4.name,
        precision="fp32",
        size=SIZE,
        checkpoint_sha256="a" * 64,
    )
    assert isinstance(engine, DeviceEngine)
    batches = [images(BATCH), images(1, 9), images(BATCH, 20)]
    for found, batch in zip(engine.stream(batches), batches, strict=True):
        np.testing.assert_array_equal(found.numpy(), eager_logits(LinearNetwork(), batch))
    first = engine.logits(images(3))
    engine.logits(images(BATCH, 7))
    np.testing.assert_array_equal(first, eager_logits(LinearNetwork(), images(3)))


@pytest.mark.parametrize(
    ("changes", "asked", "sentence"),
    [
        (
            {},
            {"batch_size": 8},
            f"engine was compiled for batch size 4, asked for 8; {AGAIN} --batch-size-eval 8",
        ),
        (
            {},
            {"size": 96},
            f"engine was compiled for input size 64, asked for 96; {AGAIN} --batch-size-eval 4",
        ),
        (
            {},
            {"kind": "tensorrt", "device": "NVIDIA H200"},
            f"engine was compiled for device NVIDIA L4, asked for NVIDIA H200; {AGAIN} --engine "
            "tensorrt --tensorrt-device 'NVIDIA H200' --batch-size-eval 4",
        ),
        (
            {"device": "NVIDIA H200"},
            {},
            f"engine was compiled for NVIDIA H200, here is NVIDIA L4; {ON_L4}",
        ),
        (
            {"compute_capability": "9.0"},
            {},
            "engine was compiled for compute capability 9.0, here is compute capability 8.9; "
            f"{ON_L4}",
        ),
        (
            {},
            {"precision": "fp16"},
            "engine was compiled with precision fp32, asked for fp16; "
            f"{AGAIN} --batch-size-eval 4 --precision fp16",
        ),
        (
            {},
            {"checkpoint_sha256": "b" * 64},
            f"engine was compiled from weights aaaaaaaaaaaa, asked for bbbbbbbbbbbb; {AGAIN}",
        ),
        (
            {"classes": [*BONES[:27], "Ulna", "Radius"]},
            {},
            f"engine has Ulna as class 27, expected Radius; {ON_L4}",
        ),
        (
            {"flavour": "tensorrt_rtx"},
            {},
            "model.engine was written by tensorrt 11.1.0.106, engine.json says tensorrt_rtx "
            f"11.1.0.106; {ON_L4}",
        ),
        (
            {"versions": dict.fromkeys(KINDS["tensorrt"].libraries, "10.9.0.34")},
            {},
            "model.engine was written by tensorrt 11.1.0.106, engine.json says tensorrt "
            f"10.9.0.34; {ON_L4}",
        ),
        (
            {"versions": {"tensorrt": "11.1.0.106", "torch": "2"}},
            {},
            "engine names no version of torch_tensorrt, expected tensorrt, torch_tensorrt, torch, "
            f"cuda; {ON_L4}",
        ),
        (
            {"input": {"name": "images", "shape": [4, 1, 96, 96]}},
            {},
            "engine takes images float32 4 x 1 x 96 x 96, its card promises images float32 "
            f"4 x 1 x 64 x 64; {ON_L4}",
        ),
    ],
)
def test_a_wrong_engine_is_refused_before_it_is_loaded(
    module: TensorRt,
    folder: FolderStore,
    tmp_path: Path,
    changes: dict[str, Any],
    asked: dict[str, Any],
    sentence: str,
) -> None:
    stored(folder, tmp_path, **changes)
    assert refusal(folder, tmp_path, **asked) == sentence
    assert module.loaded == []


def test_an_engine_of_another_version_is_refused_before_it_is_loaded(
    module: TensorRt, folder: FolderStore, tmp_path: Path
) -> None:
    stored(folder, tmp_path)
    module.__version__ = "11.1.1.3"
    assert refusal(folder, tmp_path) == (
        f"engine was compiled for tensorrt 11.1.0.106, here is tensorrt 11.1.1.3; {ON_L4}"
    )
    assert module.loaded == []


@pytest.mark.parametrize("damaged", [plan()[:-1], plan()[:20], b"", plan() + b"\0"])
def test_a_damaged_file_is_refused_before_it_is_loaded(
    module: TensorRt, folder: FolderStore, tmp_path: Path, damaged: bytes
) -> None:
    stored(folder, tmp_path)
    folder.put("model.engine", damaged)
    message = refusal(folder, tmp_path)
    assert "model.engine is damaged: sha256 is" in message
    assert message.endswith(ON_L4)
    assert module.loaded == []


def test_a_file_that_is_no_plan_is_refused_whatever_its_marker_says(
    module: TensorRt, folder: FolderStore, tmp_path: Path
) -> None:
    stored(folder, tmp_path, b"PK\x03\x04" + bytes(99))
    assert (
        refusal(folder, tmp_path)
        == f"the model file is no TensorRT engine; {AGAIN} --engine tensorrt --again"
    )
    assert module.loaded == []


def test_an_engine_of_another_run_is_refused_before_it_is_loaded(
    module: TensorRt, folder: FolderStore, tmp_path: Path
) -> None:
    """Its card and file fit each other, but this run's marker lists another file."""
    stored(folder, tmp_path)
    marker = folder.get("_SUCCESS")
    stored(folder, tmp_path, plan(tensors={"note": [1]}))
    folder.put("_SUCCESS", marker)
    assert "is damaged: sha256 is" in refusal(folder, tmp_path)
    assert module.loaded == []


def test_a_machine_without_a_gpu_names_the_engine_that_runs_there(
    monkeypatch: pytest.MonkeyPatch, folder: FolderStore, tmp_path: Path
) -> None:
    stand_in_tensorrt.install(monkeypatch, gpu=None)
    stored(folder, tmp_path)
    assert refusal(folder, tmp_path) == (
        "engine was compiled for NVIDIA L4, here is no NVIDIA GPU; "
        f"{AGAIN} --engine onnx --batch-size-eval 4"
    )


def test_an_image_without_tensorrt_is_named(
    monkeypatch: pytest.MonkeyPatch, folder: FolderStore, tmp_path: Path
) -> None:
    monkeypatch.setattr("hbseg.ml.engines.tensorrt_place.this_gpu", lambda: L4)
    stored(
        folder,
        tmp_path,
        plan(b"vtrt"),
        flavour="tensorrt_rtx",
    )
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert refusal(folder, tmp_path) == (
        "engine was compiled for tensorrt_rtx, which does not load here: import of tensorrt_rtx "
        "halted; None in sys.modules; run the step in the tensorrt image"
    )


@pytest.mark.parametrize(
    ("tensors", "has", "says"),
    [
        (
            {"images": [4, 1, 96, 96]},
            "images float32 4 x 1 x 96 x 96",
            "images float32 4 x 1 x 64 x 64",
        ),
        (
            {"logits": [4, 28, 64, 64]},
            "logits float32 4 x 28 x 64 x 64",
            "logits float32 4 x 29 x 64 x 64",
        ),
        (
            {"more": [1]},
            "logits float32 4 x 29 x 64 x 64, more float32 1",
            "logits float32 4 x 29 x 64 x 64",
        ),
    ],
)
@pytest.mark.usefixtures("module")
def test_an_engine_whose_tensors_are_not_those_of_its_card_is_refused(
    folder: FolderStore, tmp_path: Path, tensors: dict[str, list[int]], has: str, says: str
) -> None:
    stored(folder, tmp_path, plan(tensors=tensors))
    message = refusal(folder, tmp_path)
    assert message == f"model.engine has {has}, engine.json says {says}; {ON_L4}"


def test_a_plan_that_tensorrt_does_not_load_tells_its_first_reason(
    module: TensorRt, folder: FolderStore, tmp_path: Path
) -> None:
    stored(folder, tmp_path)
    module.reason = "Error Code 1: Serialization"
    assert refusal(folder, tmp_path) == (
        f"tensorrt 11.1.0.106 cannot load model.engine: Error Code 1: Serialization; {ON_L4}"
    )


def test_the_card_of_a_tensorrt_engine_survives_the_way_to_storage(tmp_path: Path) -> None:
    card = write_plan(tmp_path / "model.engine")
    assert EngineCard.from_text(card.to_json(), source="engine.json") == card
    assert (card.flavour, card.versions["tensorrt"]) == plan_header(plan())


@pytest.mark.parametrize(
    ("tag", "version", "flavour"),
    [(b"ftrt", VERSION, "tensorrt"), (b"vtrt", "1.6.1.120", "tensorrt_rtx")],
)
def test_a_header_names_flavour_and_version(tag: bytes, version: str, flavour: str) -> None:
    header = plan_header(plan(tag, version)[:32])
    assert header == (flavour, version)
    assert str(header) == f"{flavour} {version}"


@pytest.mark.parametrize("data", [b"", plan()[:31], plan(b"PK\x03\x04"), b"ftrt\x01" + bytes(99)])
def test_other_files_are_no_plans(data: bytes) -> None:
    with pytest.raises(ContractError, match="the model file is no TensorRT engine; run: hbseg sub"):
        plan_header(data)
