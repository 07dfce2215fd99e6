from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from hbseg.errors import BucketMissing, ContractError, NotFoundError
from hbseg.ml.engines.card import CARD, EngineCard, Images
from hbseg.ml.engines.opening import open_engine
from hbseg.runs.task import Step
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import read_marker, sha256_of, write_marker
from hbseg.storage.store import Store

from .conftest import BATCH, FOLD, SIZE, Chain, grey


def images(number: int, size: int = SIZE) -> Images:
    return np.stack([grey(seed, size, size) for seed in range(number)])


def with_card(folder: FolderStore, **changes: object) -> None:
    """Change the card and write a marker that fits, as another version of hbseg may have done."""
    data = EngineCard.from_text(folder.get(CARD), source=CARD).to_mapping() | changes
    card = json.dumps(data).encode()
    marker = read_marker(folder)
    folder.put(CARD, card)
    model = str(data["model"])
    write_marker(
        folder,
        step=Step.COMPILE,
        spec_hash=marker.spec_hash,
        inputs=marker.inputs,
        outputs={model: str(data["model_sha256"])},
        records={CARD: sha256_of(card)},
    )


def test_the_card_says_what_was_compiled(chain: Chain, tmp_path: Path) -> None:
    card = open_engine(chain.engine, tmp_path, batch_size=BATCH).card
    shape = (card.batch_size, card.channels, card.height, card.width)
    assert shape == (BATCH, 1, SIZE, SIZE)
    assert (card.backend, card.device, card.precision, card.fold) == ("onnx", "cpu", "fp32", FOLD)
    assert card.model_sha256 == read_marker(chain.engine).outputs["model.onnx"]
    assert card.agreement is not None
    assert card.agreement.pictures == 4
    assert card.agreement.largest_difference < 1e-3
    assert card.agreement.dice > 0.999


def test_a_partial_batch_gives_the_bits_of_a_full_one(chain: Chain, tmp_path: Path) -> None:
    engine = open_engine(chain.engine, tmp_path, batch_size=BATCH)
    full = engine.logits(images(BATCH))
    assert full.shape == (BATCH, 29, SIZE, SIZE)
    assert full.dtype == np.float32
    for number in range(1, BATCH):
        assert np.array_equal(engine.logits(images(number)), full[:number])
    backwards = engine.logits(np.ascontiguousarray(images(BATCH)[::-1]))
    assert np.array_equal(backwards[::-1], full)


@pytest.mark.parametrize("threads", [1, 2])
def test_equal_threads_give_equal_bits(chain: Chain, tmp_path: Path, threads: int) -> None:
    first, second = (
        open_engine(chain.engine, tmp_path / name, batch_size=BATCH, threads=threads)
        for name in "ab"
    )
    assert np.array_equal(first.logits(images(3)), second.logits(images(3)))


@pytest.mark.parametrize(
    "wrong",
    [
        images(BATCH + 1),
        images(1)[:0],
        images(2, SIZE + 32),
        images(2).astype(np.float32),
    ],
)
def test_images_that_do_not_fit_are_a_bug(chain: Chain, tmp_path: Path, wrong: Images) -> None:
    engine = open_engine(chain.engine, tmp_path, batch_size=BATCH)
    with pytest.raises(ValueError, match=r"expected uint8 \(1 to 4, 64, 64\)"):
        engine.logits(wrong)


def refusal(folder: Store, work: Path, **asked: object) -> str:
    with pytest.raises(ContractError) as raised:
        open_engine(folder, work, **{"batch_size": BATCH, **asked})  # type: ignore[arg-type]
    assert raised.value.step_exit_code == 76
    return str(raised.value)


def test_another_batch_size_is_refused(chain: Chain, tmp_path: Path) -> None:
    assert refusal(chain.engine, tmp_path, batch_size=8) == (
        "engine was compiled for batch size 4, asked for 8; "
        "run: hbseg submit-compile RUN --batch-size-eval 8"
    )
    assert not (tmp_path / "model.onnx").exists()


def test_another_checkpoint_is_refused(chain: Chain, tmp_path: Path) -> None:
    own = open_engine(chain.engine, tmp_path, batch_size=BATCH).card.checkpoint_sha256
    open_engine(chain.engine, tmp_path, batch_size=BATCH, checkpoint_sha256=own)
    assert refusal(chain.engine, tmp_path, checkpoint_sha256="a" * 64) == (
        f"engine was compiled from weights {own[:12]}, asked for aaaaaaaaaaaa; "
        "run: hbseg submit-compile RUN"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"backend": "openvino"},
            "engine has the backend 'openvino', known here: onnx, tensorrt; ",
        ),
        (
            {"backend": "tensorrt", "device": "NVIDIA L4"},
            "engine was compiled for tensorrt on NVIDIA L4; this version runs onnx engines only; ",
        ),
        ({"channels": 3}, "engine takes 3 x 64 x 64 values, expected one channel and a square; "),
        ({"width": 96}, "engine takes 1 x 64 x 96 values, expected one channel and a square; "),
        ({"classes": ["finger-1"]}, "engine has 1 classes, expected 29; "),
        (
            {"height": 96, "width": 96},
            "model.onnx takes {'images': (4, 1, 64, 64)}, "
            "engine.json says images: (4, 1, 96, 96); ",
        ),
        ({"kind": "Motor"}, "engine.json: kind: input should be 'Engine', found 'Motor'; "),
        ({"cylinders": 6}, "engine.json: unknown key cylinders; "),
        ({"model": "../model.onnx"}, "engine.json: model: string should match pattern"),
    ],
)
def test_an_engine_that_promises_something_else_is_refused(
    engine_copy: FolderStore, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with_card(engine_copy, **changes)
    message = refusal(engine_copy, tmp_path / "work")
    assert sentence in message
    assert "hbseg submit-compile RUN" in message


def test_another_class_order_is_refused(engine_copy: FolderStore, tmp_path: Path) -> None:
    card = EngineCard.from_text(engine_copy.get(CARD), source=CARD)
    classes = [*card.classes[:27], "Ulna", "Radius"]
    with_card(engine_copy, classes=classes)
    assert refusal(engine_copy, tmp_path / "work") == (
        "engine has Ulna as class 27, expected Radius; run: hbseg submit-compile RUN"
    )


def test_a_model_with_other_outputs_is_refused(engine_copy: FolderStore, tmp_path: Path) -> None:
    shape = [BATCH, 1, SIZE, SIZE]
    first, last = (helper.make_tensor_value_info(n, 1, shape) for n in ("images", "logits"))
    node = helper.make_node("Identity", ["images"], ["logits"])
    graph = helper.make_graph([node], "copy", [first], [last])
    opset = [helper.make_opsetid("", 20)]
    data = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    engine_copy.put("model.onnx", data)
    with_card(engine_copy, model_sha256=sha256_of(data))
    assert refusal(engine_copy, tmp_path / "work") == (
        "model.onnx gives {'logits': (4, 1, 64, 64)}, engine.json says logits: 4 x 29 planes; "
        "run: hbseg submit-compile RUN"
    )


def test_a_damaged_model_is_refused_before_it_is_loaded(
    engine_copy: FolderStore, tmp_path: Path
) -> None:
    data = engine_copy.get("model.onnx")
    engine_copy.put("model.onnx", data[:-1] + bytes([data[-1] ^ 1]))
    message = refusal(engine_copy, tmp_path / "work")
    assert "model.onnx is damaged: sha256 is" in message
    assert "its marker says" in message
    assert not list((tmp_path / "work").iterdir())


def test_a_model_of_another_engine_is_refused(engine_copy: FolderStore, tmp_path: Path) -> None:
    marker = read_marker(engine_copy)
    stranger = {"model.onnx": "b" * 64}
    outputs = marker.model_copy(update={"outputs": stranger})
    engine_copy.put("_SUCCESS", outputs.to_json())
    own = marker.outputs["model.onnx"][:12]
    assert refusal(engine_copy, tmp_path / "work") == (
        f"the marker lists model.onnx bbbbbbbbbbbb, engine.json {own}; "
        "run: hbseg submit-compile RUN"
    )


def test_a_damaged_card_is_refused(engine_copy: FolderStore, tmp_path: Path) -> None:
    engine_copy.put(CARD, engine_copy.get(CARD).replace(b'"batch_size": 4', b'"batch_size": 8'))
    assert "engine.json is damaged" in refusal(engine_copy, tmp_path, batch_size=8)


@pytest.mark.parametrize("missing", ["model.onnx", CARD])
def test_a_missing_file_is_refused(engine_copy: FolderStore, tmp_path: Path, missing: str) -> None:
    engine_copy.delete(missing)
    assert f"{missing} is missing" in refusal(engine_copy, tmp_path / "work")


def test_a_marker_without_card_or_model_is_refused(
    engine_copy: FolderStore, tmp_path: Path
) -> None:
    marker = read_marker(engine_copy)
    engine_copy.put("_SUCCESS", marker.model_copy(update={"outputs": {}}).to_json())
    assert "lists no model.onnx" in refusal(engine_copy, tmp_path)
    engine_copy.put("_SUCCESS", marker.model_copy(update={"records": {}}).to_json())
    assert "lists no engine.json" in refusal(engine_copy, tmp_path)


def test_the_folder_of_another_step_is_refused(chain: Chain, tmp_path: Path) -> None:
    message = refusal(chain.stage, tmp_path)
    assert message.endswith(
        "was written by step stage2, expected compile; run: hbseg submit-compile RUN"
    )


def test_an_engine_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no finished engine in .*; run: hbseg submit-compile"):
        open_engine(FolderStore(tmp_path / "none"), tmp_path, batch_size=1)


def test_a_file_that_is_no_model_is_refused(engine_copy: FolderStore, tmp_path: Path) -> None:
    engine_copy.put("model.onnx", b"no model at all")
    with_card(engine_copy, model_sha256=sha256_of(b"no model at all"))
    message = refusal(engine_copy, tmp_path / "work")
    assert message.startswith("ONNX Runtime ")
    assert "cannot load model.onnx" in message


def test_a_missing_bucket_is_not_taken_for_a_missing_engine(tmp_path: Path) -> None:
    class NoBucket(FolderStore):
        def get(self, key: str) -> bytes:
            raise BucketMissing("no such bucket: b")

    with pytest.raises(BucketMissing):
        open_engine(NoBucket(tmp_path), tmp_path, batch_size=1)
