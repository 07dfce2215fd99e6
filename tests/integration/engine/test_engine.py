from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from hbseg.errors import ContractError
from hbseg.ml.engines.card import CARD, Engine, EngineCard, Images
from hbseg.ml.engines.opening import open_engine
from hbseg.ml.predict import Prediction, Source, predict
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import read_marker, sha256_of
from hbseg.storage.store import Store
from tests.engines import BATCH, SIZE, grey, write_card

from .conftest import FOLD, Chain


def images(number: int, size: int = SIZE) -> Images:
    return np.stack([grey(seed, size, size) for seed in range(number)])


def with_card(folder: FolderStore, **changes: object) -> None:
    card = EngineCard.from_text(folder.get(CARD), source=CARD)
    write_card(folder, card.to_mapping() | changes)


def test_the_card_says_what_was_compiled(chain: Chain, tmp_path: Path) -> None:
    card = open_engine(chain.engine, tmp_path, batch_size=BATCH).card
    shape = (card.batch_size, card.channels, card.height, card.width)
    assert shape == (BATCH, 1, SIZE, SIZE)
    assert (card.backend, card.device, card.precision, card.fold) == ("onnx", "cpu", "fp32", FOLD)
    assert (str(card.input), str(card.output)) == (
        "images float32 4 x 1 x 64 x 64",
        "logits float32 4 x 29 x 64 x 64",
    )
    assert card.model_sha256 == read_marker(chain.engine).outputs["model.onnx"]
    assert card.agreement is not None
    assert card.agreement.pictures == 4
    assert 0 < card.agreement.largest_near_decision <= card.agreement.largest_difference < 1e-3
    assert min(card.agreement.dice_by_bone.values()) > 0.999


def test_a_partial_batch_gives_the_bits_of_a_full_one(chain: Chain, tmp_path: Path) -> None:
    engine = open_engine(chain.engine, tmp_path, batch_size=BATCH)
    full = engine.logits(images(BATCH))
    assert full.shape == (BATCH, 29, SIZE, SIZE)
    assert full.dtype == np.float32
    for number in range(1, BATCH):
        assert np.array_equal(engine.logits(images(number)), full[:number])
    backwards = engine.logits(np.ascontiguousarray(images(BATCH)[::-1]))
    assert np.array_equal(backwards[::-1], full)


def test_a_real_engine_gives_the_same_masks_in_any_batch(chain: Chain, tmp_path: Path) -> None:
    engine = open_engine(chain.engine, tmp_path, batch_size=BATCH)
    together = masks(engine, range(6))
    assert together == [code for seed in range(6) for code in masks(engine, [seed])]
    assert any(code for codes in together for code in codes)


def masks(engine: Engine, seeds: Iterable[int]) -> list[list[str]]:
    """The run lengths of pictures of several sizes."""
    sources = [Source(f"{seed}", partial(grey, seed, 60 + 9 * seed, 90)) for seed in seeds]
    found = list(predict(engine, sources))
    assert [item.path for item in found] == [source.path for source in sources]
    return [item.codes() for item in found if isinstance(item, Prediction)]


@pytest.mark.parametrize("threads", [1, 2])
def test_equal_threads_give_equal_bits(chain: Chain, tmp_path: Path, threads: int) -> None:
    first, second = (
        open_engine(chain.engine, tmp_path / name, batch_size=BATCH, threads=threads)
        for name in "ab"
    )
    assert np.array_equal(first.logits(images(3)), second.logits(images(3)))


def refusal(folder: Store, work: Path, **asked: object) -> str:
    with pytest.raises(ContractError) as raised:
        open_engine(folder, work, **{"batch_size": BATCH, **asked})  # type: ignore[arg-type]
    assert raised.value.step_exit_code == 76
    return str(raised.value)


def test_another_checkpoint_is_refused(chain: Chain, tmp_path: Path) -> None:
    own = open_engine(chain.engine, tmp_path, batch_size=BATCH).card.checkpoint_sha256
    open_engine(chain.engine, tmp_path, batch_size=BATCH, checkpoint_sha256=own)
    assert refusal(chain.engine, tmp_path, checkpoint_sha256="a" * 64) == (
        f"engine was compiled from weights {own[:12]}, asked for aaaaaaaaaaaa; "
        "run: hbseg submit-compile RUN"
    )


def test_a_model_with_other_inputs_is_refused(engine_copy: FolderStore, tmp_path: Path) -> None:
    with_card(engine_copy, height=96, width=96, input=None)
    assert refusal(engine_copy, tmp_path / "work") == (
        "model.onnx takes {'images': (4, 1, 64, 64)}, engine.json says images: (4, 1, 96, 96); "
        "run: hbseg submit-compile RUN --engine onnx --batch-size-eval 4 --again"
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
        "run: hbseg submit-compile RUN --engine onnx --batch-size-eval 4 --again"
    )


def test_a_file_that_is_no_model_is_refused(engine_copy: FolderStore, tmp_path: Path) -> None:
    engine_copy.put("model.onnx", b"no model at all")
    with_card(engine_copy, model_sha256=sha256_of(b"no model at all"))
    message = refusal(engine_copy, tmp_path / "work")
    assert message.startswith("ONNX Runtime ")
    assert "cannot load model.onnx" in message
