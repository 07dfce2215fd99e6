"""The network itself as an engine: through the step compile, and opened again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from hbseg.config.specs import CompileSpec
from hbseg.errors import ContractError
from hbseg.ml.checkpoint import load_model
from hbseg.ml.engines.card import CARD, DeviceEngine, EngineCard, Images
from hbseg.ml.engines.eager import EagerDeviceEngine, open_eager
from hbseg.ml.engines.gate import eager_logits
from hbseg.ml.engines.opening import open_engine
from hbseg.storage.markers import read_marker, sha256_of_file
from hbseg.storage.store import Store
from tests.engines import BATCH, SIZE, grey

from .conftest import Chain

FILE = "model.safetensors"


def images(number: int) -> Images:
    return np.stack([grey(seed, SIZE, SIZE) for seed in range(number)])


@pytest.fixture(scope="module")
def engine(_chain: Chain) -> Store:
    """The folder that the step compile leaves."""
    return _chain.compile(CompileSpec(engine="eager", batch_size=BATCH), "engine/eager")


@pytest.fixture
def card(engine: Store) -> EngineCard:
    return EngineCard.from_text(engine.get(CARD), source=CARD)


def test_the_step_writes_weights_without_pickle_and_a_card_that_passed_the_gate(
    chain: Chain, engine: Store, card: EngineCard, tmp_path: Path
) -> None:
    path = tmp_path / FILE
    engine.download(FILE, path)

    assert (card.backend, card.device, card.precision) == ("eager", "cpu", "fp32")
    assert card.versions == {"torch": torch.__version__}
    assert card.agreement is not None
    assert card.agreement.largest_difference < 1e-4
    assert set(card.agreement.dice_by_bone.values()) == {1.0}
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["model"])["encoder"] == "tu-test_resnet"
    state = load_model(chain.stage).model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in load_file(path).items())
    assert read_marker(engine).outputs == {FILE: sha256_of_file(path)}


def test_it_gives_the_bits_of_the_network_and_is_opened_by_its_kind(
    chain: Chain, engine: Store, tmp_path: Path
) -> None:
    opened = open_engine(engine, tmp_path, batch_size=BATCH, kind="eager", device="cpu", threads=1)

    expected = eager_logits(load_model(chain.stage).model, images(BATCH))
    assert np.array_equal(opened.logits(images(BATCH)), expected)
    assert np.array_equal(opened.logits(images(1)), expected[:1])
    assert not isinstance(opened, DeviceEngine)


def test_on_a_device_it_streams_the_same_logits(
    chain: Chain, engine: Store, card: EngineCard, tmp_path: Path
) -> None:
    path = tmp_path / FILE
    engine.download(FILE, path)
    host = open_eager(path, card, threads=1)
    device = EagerDeviceEngine(load_model(chain.stage).model, card, torch.device("cpu"))

    streamed = [logits.numpy().copy() for logits in device.stream([images(BATCH), images(2)])]

    assert isinstance(device, DeviceEngine)
    assert np.array_equal(streamed[0], host.logits(images(BATCH)))
    assert np.array_equal(streamed[1], host.logits(images(2)))


def test_it_takes_the_threads_that_it_is_given(
    engine: Store, card: EngineCard, tmp_path: Path
) -> None:
    path = tmp_path / FILE
    engine.download(FILE, path)
    before = torch.get_num_threads()
    try:
        open_eager(path, card, threads=3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def weights() -> dict[str, Tensor]:
    return {"network.other": torch.zeros(1)}


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        (None, "model.safetensors is not readable as a network: 1 validation error for ModelBlock"),
        (
            {"model": "{}"},
            "the weights of model.safetensors are not those of Unet with encoder res",
        ),
        ({"model": '{"encoder": 3}'}, "model.safetensors is not readable as a network: "),
    ],
)
def test_a_file_of_another_network_is_refused(
    card: EngineCard, tmp_path: Path, metadata: dict[str, str] | None, sentence: str
) -> None:
    save_file(weights(), tmp_path / FILE, metadata)
    with pytest.raises(ContractError) as raised:
        open_eager(tmp_path / FILE, card, threads=1)
    assert str(raised.value).startswith(sentence)


def test_a_file_that_is_no_safetensors_is_refused(card: EngineCard, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\x80\x04no pickle is read")
    with pytest.raises(ContractError) as raised:
        open_eager(tmp_path / FILE, card, threads=1)
    assert str(raised.value).startswith("model.safetensors is not readable as a network: ")
    assert str(raised.value).endswith("; run: hbseg submit-compile RUN --engine eager --again")
