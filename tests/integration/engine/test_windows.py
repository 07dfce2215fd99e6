"""A chain on windows: stage 2 trains on them, the card says so, inference cuts and blends."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hbseg import rle
from hbseg.config.specs import (
    AugmentBlock,
    CompileSpec,
    DatasetBlock,
    ModelBlock,
    OptimBlock,
    RunBlock,
    TrainSpec,
)
from hbseg.data.annotation import Polygons, runs
from hbseg.data.dataset import Dataset, Part
from hbseg.data.shards import Sample, Span
from hbseg.ml.checkpoint import load_model
from hbseg.ml.distributed import World
from hbseg.ml.engines.card import Engine
from hbseg.ml.engines.compile import compile_engine
from hbseg.ml.engines.kinds import KINDS
from hbseg.ml.predict import Prediction, Source, predict
from hbseg.ml.trainer import StageInputs, train
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import write_marker

BONE = "Radius"
SHAPES = [(112, 100), (64, 150), (50, 70), (131, 97)]
STILL = {name: 0.0 for name, field in AugmentBlock.model_fields.items() if "scale" not in name}
SPEC = TrainSpec(
    stage=2,
    dataset=DatasetBlock(
        image_size=64,
        view="window",
        augment=AugmentBlock(**STILL, smallest_scale=1, largest_scale=1),
    ),
    run=RunBlock(epochs=10, global_batch_size=4, precision="fp32", validate_every=10),
    optim=OptimBlock(lr=5e-3),
)


class OneBone(Dataset):
    """Pictures of some sizes with a bright square, the only bone, anywhere in each."""

    def __init__(self) -> None:
        self._drawn = [_sample(number) for number in range(20)]

    @property
    def version(self) -> str:
        return "one-bone"

    def samples(self, part: Part, fold: int = 0) -> list[Sample]:
        held_out = part == "validation"
        return [sample for sample in self._drawn if (sample.fold == fold) == held_out]

    def load(self, sample: Sample) -> tuple[NDArray[np.uint8], Polygons]:
        return self.picture(sample), self.polygons(sample)

    def picture(self, sample: Sample) -> NDArray[np.uint8]:
        rng = np.random.default_rng(int(sample.path))
        picture = rng.integers(20, 60, sample.shape, np.uint8)
        cv2.fillPoly(picture, self.polygons(sample)[BONE], 200)
        return picture

    def polygons(self, sample: Sample) -> Polygons:
        rng = np.random.default_rng(int(sample.path))
        corner = rng.integers(0, (sample.width - 20, sample.height - 20))
        square = np.array([[0, 0], [20, 0], [20, 20], [0, 20]])
        return {BONE: [(square + corner).astype(np.int32)]}


def _sample(number: int) -> Sample:
    height, width = SHAPES[number % len(SHAPES)]
    return Sample(
        path=str(number),
        person=str(number),
        side="R",
        split="train",
        fold=number % 5,
        height=height,
        width=width,
        shard="shards/train-00000.bin",
        picture=Span(offset=0, length=1),
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The ONNX engine of a network that was trained on windows."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("windows")
    stage = FolderStore(root / "stage2")
    given = StageInputs(
        spec=SPEC,
        model_block=ModelBlock(
            encoder="tu-test_resnet", decoder_channels=(16, 16, 16, 8, 8), output_stride=2
        ),
        dataset=OneBone(),
        stage=stage,
        work=root / "work",
        identity="i",
        initial=lambda model: False,
        say=lambda line: None,
    )
    trained = train(given, World(rank=0, size=1, device=torch.device("cpu")))
    assert trained is not None
    assert trained.metrics["dice"] > 0.98
    write_marker(stage, step="stage2", spec_hash="", inputs={}, outputs=trained.outputs)
    pictures = [OneBone().picture(sample) for sample in OneBone().samples("validation")]
    card = compile_engine(CompileSpec(batch_size=3), load_model(stage), pictures, root)
    return KINDS["onnx"].load_opener()(root / card.model, card, 1)


def test_masks_of_an_engine_for_windows_are_where_the_bone_is(engine: Engine) -> None:
    assert engine.card.view == "window"
    dataset = OneBone()
    samples = dataset.samples("validation")
    sources = [Source(sample.path, partial(dataset.picture, sample)) for sample in samples]
    found = list(predict(engine, sources))
    assert len(found) == len(samples)
    for sample, item in zip(samples, found, strict=True):
        assert isinstance(item, Prediction)
        truth = runs(dataset.polygons(sample), sample.shape)
        dice = [rle.dice(mine, true) for mine, true in zip(item.runs, truth, strict=True)]
        assert min(dice) > 0.9, dice
