"""A compiled ONNX engine beside the network itself, both made by the step's own compile."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import numpy as np

from hbseg.config.specs import CompileSpec, ModelBlock
from hbseg.ml.checkpoint import LoadedModel, ModelCard
from hbseg.ml.engines.card import Engine, Images
from hbseg.ml.engines.compile import compile_engine
from hbseg.ml.engines.kinds import kind_of
from hbseg.ml.model import Segmenter
from hbseg.system.cpu import usable_threads
from tests.bench.figures import Figure

DEMO = ModelBlock(encoder="tu-test_resnet", decoder_channels=(96, 48, 32, 24, 16), output_stride=2)
NETWORKS = {"the demo's network": (DEMO, 192), "the default network": (ModelBlock(), 256)}
"""By name, with the side of the input. Weights are random: they change no time."""
BATCHES = (1, 8)
TIMES = 15


def figures(folder: Path) -> list[Figure]:
    """Return the figures; `folder` is made, for the engines."""
    return [
        _figure(folder, name, block, size, batch)
        for name, (block, size) in NETWORKS.items()
        for batch in BATCHES
    ]


def _figure(folder: Path, name: str, block: ModelBlock, size: int, batch: int) -> Figure:
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size), dtype=np.uint8)
    card = ModelCard(model=block, image_size=size, weights_sha256="0" * 64)
    loaded = LoadedModel(Segmenter(block).eval(), card)
    engines = {
        kind: _engine(kind, loaded, images, folder / f"{size}-{batch}-{kind}")
        for kind in ("onnx", "eager")
    }
    times = _medians(engines, images)
    return Figure(
        f"ONNX engine of {name}, {size} px, batch {batch} (baseline: eager)",
        "ms",
        times["onnx"],
        times["eager"],
    )


def _engine(kind: str, loaded: LoadedModel, images: Images, folder: Path) -> Engine:
    folder.mkdir(parents=True)
    # masks of random weights are specks, of which the last bit of a logit may be all
    spec = CompileSpec.model_validate(
        {"engine": kind, "batch_size": len(images), "smallest_dice": 0.0}
    )
    card = compile_engine(spec, loaded, [images[0]], folder)
    return kind_of(card).load_opener()(folder / card.model, card, usable_threads())


def _medians(engines: dict[str, Engine], images: Images) -> dict[str, float]:
    """Call all engines in turn, `TIMES` times after a first one; return the medians in ms."""
    times: dict[str, list[float]] = {kind: [] for kind in engines}
    for turn in range(TIMES + 1):
        for kind, engine in engines.items():
            start = time.perf_counter()
            engine.logits(images)
            if turn:
                times[kind].append((time.perf_counter() - start) * 1000)
    return {kind: median(found) for kind, found in times.items()}
