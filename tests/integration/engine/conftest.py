"""A tiny chain of real parts: dataset, checkpoint of a random network, and its engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hbseg.anatomy import BONES
from hbseg.config.specs import CompileSpec, DatasetBlock, ModelBlock, PrepareSpec, Spec, TrainSpec
from hbseg.data.annotation import Polygons
from hbseg.data.frames import pack_picture, pack_polygons
from hbseg.data.shards import Sample, ShardTable, Span
from hbseg.data.versions import DATASET, Counts, DatasetRecord, FoldRecord, ShardRecord, table_key
from hbseg.documents import canonical_digest
from hbseg.ml.checkpoint import CheckpointFolder
from hbseg.ml.engines.reference import TRAIN_SPEC
from hbseg.ml.model import Segmenter
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.runs.task import Input, Task
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import sha256_of, write_marker
from hbseg.storage.store import Store
from hbseg_jobs import compile as compile_job
from hbseg_jobs.entry import StepContext
from tests.engines import BATCH, SIZE, grey

FOLD = 1
VERSION = "0123456789abcdef"
BLOCK = ModelBlock(encoder="tu-test_resnet", decoder_channels=(16, 16, 16, 8, 8))


def squares(seed: int, height: int, width: int) -> Polygons:
    rng = np.random.default_rng(seed)
    polygons: Polygons = {}
    for bone in BONES:
        x, y = int(rng.integers(0, width - 20)), int(rng.integers(0, height - 20))
        corners = [[x, y], [x + 15, y], [x + 15, y + 15], [x, y + 15]]
        polygons[bone] = [np.array(corners, dtype=np.int32)]
    return polygons


class Chain:
    """Storage with a dataset version, a finished stage 2 and an engine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = FolderStore(root / "data")
        self.runs = FolderStore(root / "runs")
        self.run = Run(self.runs, "tiny")
        self.version = self.data.folder(f"versions/{VERSION}")
        self.stage = self.run.folder.folder("stage2")
        self.engine = self.run.folder.folder("engine/key")

    def context(
        self, step: Step, spec: Spec, prefix: str, *, work: str, **inputs: Store
    ) -> StepContext:
        task = Task(
            step=step,
            spec=spec,
            folder=self.run.folder.folder(prefix),
            prefix=prefix,
            inputs=tuple(Input(name, folder) for name, folder in inputs.items()),
        )
        folder = self.root / "work" / work
        folder.mkdir(parents=True, exist_ok=True)
        return StepContext(task, self.run, self.data, folder, attempt=1)

    def compile(self, spec: CompileSpec, prefix: str = "engine/key") -> Store:
        inputs = {"checkpoint": self.stage, "dataset": self.version}
        context = self.context(Step.COMPILE, spec, prefix, work=prefix, **inputs)
        compile_job.work(context)
        return self.run.folder.folder(prefix)

    def write_dataset(self, train: int, test: int) -> None:
        shards = [self._shard("train", train), self._shard("test", test)]
        record = DatasetRecord(
            version=VERSION,
            spec=PrepareSpec(folds=2),
            counts=Counts(train_images=train, test_images=test, shards=2),
            folds=(FoldRecord(persons=1, images=1), FoldRecord(persons=1, images=1)),
            shards=tuple(shards),
        )
        self.version.put(DATASET, record.to_json())
        write_marker(
            self.version,
            step=Step.PREPARE,
            spec_hash=record.spec.digest(),
            inputs={},
            outputs={DATASET: sha256_of(record.to_json())},
        )

    def _shard(self, split: str, number: int) -> ShardRecord:
        key = f"shards/{split}-00000.bin"
        data, samples = b"", []
        for index in range(number):
            height, width = 80 - index % 3, 72 + index % 5
            picture = pack_picture(grey(index, height, width))
            polygons = pack_polygons(squares(index, height, width))
            spans = {"picture": Span(offset=len(data), length=len(picture))}
            data += picture
            if split == "train":
                spans["polygons"] = Span(offset=len(data), length=len(polygons))
                data += polygons
            row = {
                "path": f"{split}/DCM/ID{index // 2:03}/image{index:05}.png",
                "person": f"ID{index // 2:03}",
                "side": "RL"[index % 2],
                "split": split,
                "fold": index % 2 if split == "train" else None,
                "height": height,
                "width": width,
                "shard": key,
                **spans,
            }
            samples.append(Sample.model_validate(row))
        table = ShardTable(
            shard=key, sha256=sha256_of(data), bytes=len(data), samples=tuple(samples)
        ).to_json()
        self.version.put(key, data)
        self.version.put(table_key(key), table)
        return ShardRecord(
            key=key,
            sha256=sha256_of(data),
            bytes=len(data),
            samples=number,
            table_sha256=sha256_of(table),
        )

    def write_stage(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        model = Segmenter(BLOCK).eval()
        with torch.no_grad():
            model.head.weight.mul_(20)  # masks with an inside, an outside and clear logits
        spec = TrainSpec(stage=1, model=BLOCK, dataset=DatasetBlock(fold=FOLD, image_size=SIZE))
        text = spec.to_yaml().encode()
        self.stage.put(TRAIN_SPEC, text)
        folder = CheckpointFolder(self.stage, canonical_digest(seed), self.root / "work" / "stage")
        outputs = folder.finish(model.state_dict(), BLOCK, SIZE, "whole")
        write_marker(
            self.stage,
            step=Step.STAGE2,
            spec_hash=spec.digest(),
            inputs={},
            outputs={**outputs, TRAIN_SPEC: sha256_of(text)},
        )


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    chain = Chain(tmp_path_factory.mktemp("chain"))
    chain.write_dataset(train=10, test=9)
    chain.write_stage()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        chain.compile(CompileSpec(batch_size=BATCH))
    return chain


@pytest.fixture
def chain(_chain: Chain) -> Chain:
    """The chain; a test that spoils the engine works on `engine_copy`."""
    return _chain


@pytest.fixture
def engine_copy(chain: Chain, tmp_path: Path) -> FolderStore:
    copy = FolderStore(tmp_path / "engine")
    for entry in chain.engine.list():
        copy.put(entry.key, chain.engine.get(entry.key))
    return copy
