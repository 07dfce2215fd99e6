"""Inference beside the plain way: logits to runs, and a folder of PNGs to a CSV."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hbseg import rle
from hbseg.anatomy import BONES
from hbseg.config.specs import CompileSpec, InferSpec, ModelBlock
from hbseg.data import annotation
from hbseg.data.synth import write_raw_set
from hbseg.ml.checkpoint import LoadedModel
from hbseg.ml.engines.kinds import kind_to_compile
from hbseg.ml.frame import Frame
from hbseg.ml.model import Segmenter
from hbseg.ml.native import native_runs
from hbseg.runs.steps import Step
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import sha256_of_file
from tests.bench.costs import Command, medians
from tests.bench.figures import Figure
from tests.bench.plain_inference import NATIVE, SIZE, codes_of
from tests.engines import engine_card, write_card

HANDS = 4
FEW = 2
MANY = {"ours": 34, "plain": 8}
"""Pictures of two calls each, whose difference is what pictures cost beside the start."""
BATCH = 8
TIMES = 3
REPEATS = 7
SIDES = (512, 1024)
"""Sides of the logits that become runs at 2048 x 2048."""
STRIDE = 2


class BenchNetwork(nn.Module):
    """The demo's network, untrained, whose logits are those of a drawn hand but for a little."""

    def __init__(self, hand_chw: Tensor) -> None:
        super().__init__()
        block = ModelBlock(
            encoder="tu-test_resnet", decoder_channels=(96, 48, 32, 24, 16), output_stride=STRIDE
        )
        self.network = Segmenter(block)
        self.hand = nn.Parameter(hand_chw, requires_grad=False)

    def forward(self, images_b1hw: Tensor) -> Tensor:
        logits: Tensor = self.hand + 0.1 * self.network(images_b1hw)
        return logits


def figures(folder: Path) -> list[Figure]:
    """Return the figures; `folder` is made, for the files."""
    folder.mkdir()
    raw = folder / "raw"
    write_raw_set(raw, hands=HANDS, test_hands=0, seed=0, workers=os.cpu_count() or 1)
    return [*(_runs(raw, side) for side in SIDES), _whole(folder, raw)]


def _runs(raw: Path, side: int) -> Figure:
    """Compare on one thread, in turn."""
    logits, frame = hand_logits(raw, side), Frame.of(NATIVE, NATIVE, side)
    tensor, threads = torch.from_numpy(logits)[None], torch.get_num_threads()
    torch.set_num_threads(1)
    ours, plain = [], []
    for _ in range(REPEATS):
        ours.append(_seconds(lambda: [rle.to_text(runs) for runs in native_runs(logits, frame)]))
        plain.append(_seconds(lambda: codes_of(tensor)))
    torch.set_num_threads(threads)
    name = f"logits of 29 bones at {side} to codes at {NATIVE}: CPU (baseline: whole planes)"
    return Figure(name, "s", median(ours), median(plain))


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def hand_logits(raw: Path, side: int) -> NDArray[np.float32]:
    """Return logits, float32 [29, side, side], as a trained network has them for a drawn hand."""
    path = min(raw.glob("train/outputs_json/*/*.json"))
    bones = annotation.runs(annotation.read(path.read_bytes(), source=path.name), (NATIVE, NATIVE))
    planes = [_plane(rle.decode(rle.to_text(runs), (NATIVE, NATIVE)), side) for runs in bones]
    return np.stack(planes).astype(np.float32)


def _plane(mask: NDArray[np.bool_], side: int) -> NDArray[np.float64]:
    share = cv2.resize(mask.astype(np.float64), (side, side), interpolation=cv2.INTER_AREA)
    share = cv2.GaussianBlur(share, (0, 0), 1.0).clip(1e-4, 1 - 1e-4)
    return np.asarray(np.log(share / (1 - share)))


def _whole(folder: Path, raw: Path) -> Figure:
    """Compare two processes of two threads; the start of each is taken off."""
    torch.manual_seed(0)
    network = BenchNetwork(torch.from_numpy(hand_logits(raw, SIZE // STRIDE))).eval()
    torch.save(network, folder / "network.pt")
    engine = FolderStore(folder / "runs" / "bench" / "engine" / "key")
    _compile(network, Path(engine.url))
    words = {
        "ours": lambda pictures: _step(folder, engine, pictures),
        "plain": lambda pictures: _plain(folder, pictures),
    }
    numbers = {name: (who, number) for who in MANY for name, number in _calls(who)}
    pictures = {n: _pictures(folder / f"{n}", raw, n) for n in {n for _, n in numbers.values()}}
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    commands = {
        name: Command(words[who](pictures[number]), environment)
        for name, (who, number) in numbers.items()
    }
    costs = medians(commands, TIMES)
    ours, plain = (
        (costs[f"{who}, many"].wall - costs[f"{who}, few"].wall) / (many - FEW)
        for who, many in MANY.items()
    )
    name = f"infer at {SIZE}, PNG to CSV, 2 threads: wall per picture (baseline: torch, planes)"
    return Figure(name, "s", ours, plain)


def _calls(who: str) -> list[tuple[str, int]]:
    return [(f"{who}, few", FEW), (f"{who}, many", MANY[who])]


def _plain(folder: Path, pictures: Path) -> list[str]:
    words = ("-m", "tests.bench.plain_inference", str(folder / "network.pt"), str(pictures))
    return [sys.executable, *words, str(folder / "plain.csv")]


def _compile(network: nn.Module, folder: Path) -> None:
    folder.mkdir(parents=True)
    kind = kind_to_compile("onnx")
    loaded = SimpleNamespace(model=network, card=SimpleNamespace(image_size=SIZE, classes=BONES))
    path = folder / kind.model_file
    compiled = kind.load_compiler()(CompileSpec(batch_size=BATCH), cast(LoadedModel, loaded), path)
    card = engine_card(
        batch_size=BATCH,
        height=SIZE,
        width=SIZE,
        versions=compiled.versions,
        model_sha256=sha256_of_file(path),
    )
    write_card(FolderStore(folder), card.to_mapping())


def _pictures(folder: Path, raw: Path, number: int) -> Path:
    """Make a folder of so many pictures, as links."""
    folder.mkdir()
    hands = sorted(raw.glob("train/DCM/*/*.png"))
    for index in range(number):
        (folder / f"{index:03}.png").hardlink_to(hands[index % len(hands)])
    return folder


def _step(folder: Path, engine: FolderStore, pictures: Path) -> list[str]:
    """Return the command of the step as the launcher starts it, without what it did before."""
    spec = InferSpec(mode="images", images=str(pictures), batch_size=BATCH)
    file = folder / f"{pictures.name}.yaml"
    file.write_text(spec.to_yaml())
    prefix = f"images/{pictures.name}"
    script = (
        "import shutil, sys, runpy; shutil.rmtree(sys.argv[1], ignore_errors=True); "
        "del sys.argv[1]; runpy.run_module('hbseg_jobs.infer', run_name='__main__')"
    )
    return [
        *(sys.executable, "-c", script, str(folder / "runs" / "bench" / prefix)),
        *("--step", Step.INFER, "--spec", str(file), "--spec-hash", spec.digest()),
        *("--run-name", "bench", "--runs", str(folder / "runs"), "--data", str(folder / "data")),
        *("--prefix", prefix, "--work", str(folder / "work"), f"--input=engine={engine.url}"),
    ]
