from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from hbseg.config.specs import DatasetBlock, TrainSpec
from hbseg.data.dataset import Dataset
from hbseg.errors import ContractError, NotFoundError
from hbseg.ml.engines.gate import eager_logits
from hbseg.ml.engines.reference import (
    held_out_fold,
    reference_pictures,
    scaled,
    seen_at_once,
)
from hbseg.runs.steps import Step
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import read_marker, sha256_of, write_marker
from tests.engines import SIZE, LinearNetwork, grey

FOLD = 3


@pytest.fixture
def stage(tmp_path: Path) -> FolderStore:
    folder = FolderStore(tmp_path)
    text = TrainSpec(stage=2, dataset=DatasetBlock(fold=FOLD)).to_yaml().encode()
    folder.put("spec.yaml", text)
    write_marker(
        folder,
        step=Step.STAGE2,
        spec_hash="5" * 64,
        inputs={},
        outputs={"spec.yaml": sha256_of(text)},
    )
    return folder


def test_the_fold_is_the_one_that_the_stage_held_out(stage: FolderStore) -> None:
    assert held_out_fold(stage) == FOLD


def test_a_stage_without_its_spec_is_refused(stage: FolderStore) -> None:
    marker = read_marker(stage)
    stage.put("spec.yaml", b"kind: TrainSpec")
    with pytest.raises(ContractError, match=r"spec\.yaml is damaged"):
        held_out_fold(stage)
    stage.put("_SUCCESS", marker.model_copy(update={"outputs": {}}).to_json())
    with pytest.raises(ContractError, match=r"lists no spec\.yaml"):
        held_out_fold(stage)
    stage.delete("_SUCCESS")
    with pytest.raises(NotFoundError):
        held_out_fold(stage)


@pytest.mark.parametrize(
    ("number", "chosen"),
    [
        (0, []),
        (1, [0]),
        (3, [0, 1, 2]),
        (4, [0, 1, 2, 3]),
        (7, [0, 1, 2, 3]),
        (8, [0, 2, 4, 6]),
        (1000, [0, 250, 500, 750]),
    ],
)
def test_pictures_are_evenly_over_the_held_out_fold(number: int, chosen: list[int]) -> None:
    asked: list[tuple[str, int]] = []

    def samples(part: str, fold: int) -> list[int]:
        asked.append((part, fold))
        return list(range(number))

    dataset = SimpleNamespace(samples=samples, picture=lambda sample: sample)
    assert list(reference_pictures(cast("Dataset", dataset), FOLD)) == chosen
    assert asked == [("validation", FOLD)]


def test_pictures_of_any_size_become_one_batch() -> None:
    pictures = [grey(0), grey(1, 40, 100), grey(2, SIZE, SIZE)]
    images = scaled(pictures, SIZE)
    assert images.shape == (3, SIZE, SIZE)
    assert images.dtype == np.uint8
    assert np.array_equal(images[2], pictures[2])


def test_an_input_of_a_network_for_windows_is_a_part_of_the_picture_as_it_is() -> None:
    pictures = [grey(0, 200, 180), grey(1, 40, 100)]
    assert seen_at_once(pictures, SIZE, "whole") == pictures
    large, small = seen_at_once(pictures, SIZE, "window")
    assert np.array_equal(large, pictures[0][68:132, 58:122])
    assert np.array_equal(small[12:52], pictures[1][:, 18:82])


def test_the_network_s_own_logits_need_no_engine() -> None:
    image = grey(0, SIZE, SIZE)
    logits = eager_logits(LinearNetwork(), image[None])
    assert logits.shape == (1, 29, SIZE, SIZE)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits[0, 0], image / 32 - 2.0, atol=1e-5)
