from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hbseg.anatomy import BONES
from hbseg.errors import BucketMissing, ContractError, NotFoundError, VersionError
from hbseg.exit_codes import StepExit
from hbseg.ml.engines.card import CARD
from hbseg.ml.engines.kinds import KINDS, Opener
from hbseg.ml.engines.opening import open_engine
from hbseg.runs.steps import Step
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import read_marker, write_marker
from hbseg.storage.store import Store
from tests.engines import BATCH, MODEL, engine_card, write_engine

TRUNCATED = MODEL[:-1]
MADE_AGAIN = "run: hbseg submit-compile RUN --engine onnx --batch-size-eval 4 --again"


@pytest.fixture(autouse=True)
def no_opener(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused here is refused before its kind's libraries are loaded."""

    def load_opener() -> Opener:
        raise AssertionError("the engine's libraries are loaded")

    monkeypatch.setitem(KINDS, "onnx", replace(KINDS["onnx"], load_opener=load_opener))


@pytest.fixture
def engine(tmp_path: Path) -> FolderStore:
    folder = FolderStore(tmp_path / "engine")
    write_engine(folder)
    return folder


def refusal(folder: Store, work: Path, **asked: object) -> str:
    with pytest.raises(ContractError) as raised:
        open_engine(folder, work, **{"batch_size": BATCH, **asked})  # type: ignore[arg-type]
    assert raised.value.step_exit_code == 76
    assert not list(work.glob("model*"))
    return str(raised.value)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"batch_size": 8},
            "engine was compiled for batch size 4, asked for 8; "
            "run: hbseg submit-compile RUN --batch-size-eval 8",
        ),
        (
            {"precision": "fp16"},
            "engine was compiled with precision fp32, asked for fp16; run: hbseg submit-compile "
            "RUN --batch-size-eval 4 --precision fp16",
        ),
        (
            {"size": 96},
            "engine was compiled for input size 64, asked for 96; run: hbseg submit-compile RUN "
            "--batch-size-eval 4",
        ),
        (
            {"checkpoint_sha256": "b" * 64},
            "engine was compiled from weights aaaaaaaaaaaa, asked for bbbbbbbbbbbb; "
            "run: hbseg submit-compile RUN",
        ),
        (
            {"kind": "tensorrt", "device": "NVIDIA L4"},
            "engine was compiled for onnx, asked for tensorrt; run: hbseg submit-compile RUN "
            "--engine tensorrt --tensorrt-device 'NVIDIA L4' --batch-size-eval 4",
        ),
        (
            {"kind": "onnx", "device": "NVIDIA L4"},
            "engine was compiled for device cpu, asked for NVIDIA L4; run: hbseg submit-compile "
            "RUN --engine onnx --tensorrt-device 'NVIDIA L4' --batch-size-eval 4",
        ),
    ],
)
def test_an_engine_that_was_not_asked_for_is_refused_before_its_model_is_read(
    engine: FolderStore, tmp_path: Path, asked: dict[str, object], sentence: str
) -> None:
    engine.delete("model.onnx")
    assert refusal(engine, tmp_path / "work", **asked) == sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"backend": "openvino"},
            "engine was compiled for openvino on cpu; this version runs onnx, tensorrt, eager "
            "engines only; run: hbseg submit-compile RUN --engine onnx",
        ),
        (
            {"versions": {"torch": "2"}},
            "engine names no version of onnx, expected torch, onnx, onnxruntime; " + MADE_AGAIN,
        ),
        (
            {"versions": {"torch": "2", "onnx": "1"}},
            "engine names no version of onnxruntime, expected torch, onnx, onnxruntime; "
            + MADE_AGAIN,
        ),
        (
            {"channels": 3},
            "engine takes 3 x 64 x 64 values, expected one channel and a square; " + MADE_AGAIN,
        ),
        (
            {"classes": [*BONES[:27], "Ulna", "Radius"]},
            f"engine has Ulna as class 27, expected Radius; {MADE_AGAIN}",
        ),
    ],
)
def test_an_engine_that_promises_something_else_is_refused(
    tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    folder = FolderStore(tmp_path / "engine")
    write_engine(folder, **changes)
    assert refusal(folder, tmp_path / "work") == sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "Motor"}, "engine.json: kind: input should be 'Engine', found 'Motor'; "),
        ({"model": "../model.onnx"}, "engine.json: model: string should match pattern"),
    ],
)
def test_a_card_that_is_not_valid_is_refused_with_the_command(
    tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    folder = FolderStore(tmp_path / "engine")
    write_engine(folder, **changes)
    message = refusal(folder, tmp_path / "work")
    assert sentence in message
    assert message.endswith("; run: hbseg submit-compile RUN --again")


def test_a_card_with_a_key_of_a_newer_version_asks_for_the_upgrade(tmp_path: Path) -> None:
    folder = FolderStore(tmp_path / "engine")
    write_engine(folder, cylinders=6)
    with pytest.raises(VersionError, match=r"engine\.json has the key cylinders") as refused:
        refusal(folder, tmp_path / "work")
    assert refused.value.step_exit_code == StepExit.CONTRACT


def test_a_damaged_model_is_refused_before_it_is_loaded(
    engine: FolderStore, tmp_path: Path
) -> None:
    engine.put("model.onnx", TRUNCATED)
    message = refusal(engine, tmp_path / "work")
    assert "model.onnx is damaged: sha256 is" in message
    assert f"its marker says {engine_card().model_sha256[:12]}; {MADE_AGAIN}" in message


def test_a_model_of_another_engine_is_refused(engine: FolderStore, tmp_path: Path) -> None:
    marker = read_marker(engine)
    stranger = marker.model_copy(update={"outputs": {"model.onnx": "b" * 64}})
    engine.put("_SUCCESS", stranger.to_json())
    own = engine_card().model_sha256[:12]
    assert refusal(engine, tmp_path / "work") == (
        f"the marker lists model.onnx bbbbbbbbbbbb, engine.json {own}; {MADE_AGAIN}"
    )


def test_a_damaged_card_is_refused(engine: FolderStore, tmp_path: Path) -> None:
    engine.put(CARD, engine.get(CARD).replace(b'"batch_size": 4', b'"batch_size": 8'))
    message = refusal(engine, tmp_path / "work", batch_size=8)
    assert "engine.json is damaged" in message
    assert message.endswith("; run: hbseg submit-compile RUN --again")


@pytest.mark.parametrize(
    ("missing", "hint"),
    [("model.onnx", MADE_AGAIN), (CARD, "run: hbseg submit-compile RUN --again")],
)
def test_a_missing_file_is_refused(
    engine: FolderStore, tmp_path: Path, missing: str, hint: str
) -> None:
    engine.delete(missing)
    message = refusal(engine, tmp_path / "work")
    assert message.endswith(f"/{missing} is missing; {hint}")


@pytest.mark.parametrize(
    ("field", "sentence"),
    [("outputs", "lists no model.onnx"), ("records", "lists no engine.json")],
)
def test_a_marker_without_card_or_model_is_refused(
    engine: FolderStore, tmp_path: Path, field: str, sentence: str
) -> None:
    engine.put("_SUCCESS", read_marker(engine).model_copy(update={field: {}}).to_json())
    assert sentence in refusal(engine, tmp_path / "work")


def test_the_folder_of_another_step_is_refused(tmp_path: Path) -> None:
    stage = FolderStore(tmp_path / "stage")
    write_marker(stage, step=Step.STAGE2, spec_hash="5" * 64, inputs={}, outputs={})
    message = refusal(stage, tmp_path / "work")
    assert message.endswith(
        "was written by step stage2, expected compile; run: hbseg submit-compile RUN"
    )


def test_an_engine_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no finished engine in .*; run: hbseg submit-compile"):
        open_engine(FolderStore(tmp_path / "none"), tmp_path, batch_size=1)


def test_a_missing_bucket_is_not_taken_for_a_missing_engine(tmp_path: Path) -> None:
    class NoBucket(FolderStore):
        def get(self, key: str) -> bytes:
            raise BucketMissing("no such bucket: b")

    with pytest.raises(BucketMissing):
        open_engine(NoBucket(tmp_path), tmp_path, batch_size=1)
