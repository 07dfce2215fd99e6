"""What `make test-gpu` does on a GPU, here on the CPU: its commands exist, its checks hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu.chain import chain
from tests.gpu.engines import engines
from tests.gpu.people import People
from tests.gpu.restart import restart

SMALL = (
    *("--set", "run.global_batch_size=4", "--set", "run.micro_batch_size=null"),
    *("--set", "run.epochs=3", "--set", "run.validate_every=1", "--set", "dataset.image_size=64"),
)
NETWORK = ("--set", "model.encoder=tu-test_resnet", "--set", "model.decoder_channels=[16,16,8,8,8]")


@pytest.mark.slow
def test_a_killed_training_the_engines_and_the_chain(tmp_path: Path) -> None:
    settings = {"1": (*SMALL, *NETWORK), "2": SMALL}
    people = People(tmp_path / "people", hands=12, settings=settings)

    assert restart(people) == {"repeated": True, "killed": True}
    looked_at = engines(people)
    assert looked_at["eager"]["races"] == "no GPU"
    assert looked_at["eager"]["images_per_second"] > 0
    figures = chain(people)

    assert figures["1"]["epochs"] == figures["2"]["epochs"] == 3
    assert {"compile", "infer", "infer --mode valid"} <= figures.keys()
