"""Engines on a GPU: the eager one, TensorRT's where it is installed, and what refuses them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from math import inf
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch

from hbseg.config.specs import CompileSpec
from hbseg.errors import ContractError
from hbseg.ml.checkpoint import load_model
from hbseg.ml.engines.card import CARD, CPU, DeviceEngine, Engine, EngineCard, Images, Logits
from hbseg.ml.engines.gate import eager_logits
from hbseg.ml.engines.opening import open_engine
from hbseg.ml.predict import Prediction, Source, predict
from hbseg.runs.chain import latest_finished
from hbseg.runs.results import EFFICIENCY, Efficiency
from hbseg.runs.run import Run
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import read_marker
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from hbseg.submission.difference import agreements
from hbseg.submission.expected import of_one_size
from tests.engines import grey, write_card
from tests.gpu.people import People

RUN = "engines"
SETTINGS = ("--set", "dataset.image_size=256", "--set", "run.epochs=2")
ACCEPTED = {"fp32": 0.02, "fp16": 0.1, "bf16": 0.8}
"""By precision: largest |logit difference| to the eager network, where |logit| < 2."""
SMALLEST_DICE = 0.99
"""Of the test hands' masks by two kinds of engines, mean over all."""
SAME: Final = 4
"""The eager engine and the network that it is are not further apart than this factor in speed."""
ROUNDS = 5


def engines(people: People) -> dict[str, Any]:
    """Train a small network, make engines of it, and look at each one; return figures."""
    for stage in ("1", "2"):
        people.hbseg(*people.train(RUN, stage, *SETTINGS))
    told: dict[str, Any] = {"onnx": _made(people, "onnx")}
    told["eager"] = _made(people, "eager") | _looked_at(people, "eager")
    told["eager"]["races"] = _races(people)
    told["eager"] |= _measured(people, "eager", smallest=1 / SAME, largest=SAME)
    told["eager"]["dice_to_onnx"] = _dice(people, "eager", "onnx")
    if not (importlib.util.find_spec("tensorrt") and importlib.util.find_spec("torch_tensorrt")):
        return told | {"tensorrt": "not installed"}
    for precision in ACCEPTED:
        name = f"tensorrt {precision}"
        told[name] = _made(people, "tensorrt", precision) | _looked_at(people, "tensorrt")
        if precision == "fp16":  # building a further engine for each takes minutes
            told[name] |= _measured(people, "tensorrt", precision, smallest=1)
        told[name]["dice_to_onnx"] = _dice(people, "tensorrt", "onnx")
    told["tensorrt refused"] = _refused(people)
    return told


def _made(people: People, kind: str, precision: str = "fp32") -> dict[str, Any]:
    """Compile, which passes the accuracy gate, and make the test hands' masks with it."""
    words = ("--engine", kind, "--set", f"precision={precision}", "--wait")
    told: dict[str, Any] = {"compile_s": round(people.hbseg("submit-compile", RUN, *words), 1)}
    told["infer_s"] = round(people.hbseg("submit-infer", RUN, "--engine", kind, "--wait"), 1)
    people.hbseg("fetch-submission", RUN, "--to", str(_csv(people, kind)))
    card = _card(_newest(people, kind))
    assert card.precision == precision
    return told | card.figures()


def _measured(
    people: People, kind: str, precision: str = "fp32", *, smallest: float, largest: float = inf
) -> dict[str, float]:
    """Run the step efficiency with engines of batch size 1 and the usual one; return figures.

    On a GPU the speedup must be between two limits; other work on a CPU changes it at will.
    """
    words = ("--engine", kind, "--batch-size-eval", "1", "--set", f"precision={precision}")
    people.hbseg("submit-compile", RUN, *words, "--wait")
    people.hbseg("submit-efficiency", RUN, "--engine", kind, "--wait")
    prefix = latest_finished(Run(open_store(str(people.runs)), RUN), "efficiency")
    folder = _run(people).folder(str(prefix))
    found = Efficiency.from_text(folder.get(EFFICIENCY), source=EFFICIENCY)
    assert (found.backend, found.precision) == (kind, precision)
    assert sorted(found.engines) == [1, CompileSpec().batch_size]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else CPU
    assert {one.device for one in (*found.engines.values(), found.eager)} == {device}
    assert device == CPU or found.processor.endswith(f", {device}")
    metrics = read_marker(folder).metrics
    if device != CPU:
        assert smallest < metrics["speedup"] < largest, f"{kind}: speedup {metrics['speedup']}"
    return metrics


def _csv(people: People, kind: str) -> Path:
    path = people.folder / f"{kind}.csv"
    path.unlink(missing_ok=True)
    return path


def _dice(people: People, one: str, other: str) -> float:
    files = (people.folder / f"{one}.csv", people.folder / f"{other}.csv")
    dice = np.mean([found.mean for found in agreements(*files, of_one_size)])
    assert dice > SMALLEST_DICE, f"masks of {one} and {other} have a Dice of {dice:.4f}"
    return float(dice)


class HostOnly:
    """An engine whose logits come to the host, as those of any kind may."""

    def __init__(self, engine: Engine) -> None:
        self.card = engine.card
        self.logits = engine.logits


def _looked_at(people: People, kind: str) -> dict[str, Any]:
    """Compare an engine's ways with each other and with the network; return images per second."""
    with TemporaryDirectory() as work:
        folder = _newest(people, kind)
        engine = open_engine(folder, Path(work), batch_size=_card(folder).batch_size)
        batches = _batches(engine)
        _check_streams(engine, batches)
        _check_network(people, engine, batches[0])
        _check_runs(engine)
        return {
            "streamed_images_per_second": _rate(batches, partial(streamed, engine)),
            "called_images_per_second": _rate(batches, partial(map, engine.logits)),
        }


def _batches(engine: Engine) -> list[Images]:
    """Return seven batches, two of them partial."""
    size, batch = engine.card.height, engine.card.batch_size
    numbers = (batch, batch, 1, batch, batch, max(1, batch - 1), batch)
    return [
        np.stack([grey(20 * index + seed, size, size) for seed in range(number)])
        for index, number in enumerate(numbers)
    ]


def streamed(engine: Engine, batches: Iterable[Images]) -> Iterator[Logits]:
    """Yield the logits of batches, in host memory."""
    if not isinstance(engine, DeviceEngine):
        yield from map(engine.logits, batches)
        return
    for logits in engine.stream(batches):
        yield logits.cpu().numpy()


def _check_streams(engine: Engine, batches: list[Images]) -> None:
    assert isinstance(engine, DeviceEngine) or not torch.cuda.is_available()
    for found, batch in zip(streamed(engine, batches), batches, strict=True):
        np.testing.assert_array_equal(found, engine.logits(batch))


def _check_network(people: People, engine: Engine, batch: Images) -> None:
    """Compare logits near the decision with those of the eager network on the CPU."""
    expected = eager_logits(load_model(_run(people).folder("stage2")).model, batch)
    difference = np.abs(engine.logits(batch) - expected)[np.abs(expected) < 2]
    accepted = ACCEPTED[engine.card.precision]
    assert difference.max(initial=0.0) <= accepted, f"{difference.max()} is more than {accepted}"


def _check_runs(engine: Engine) -> None:
    """Compare masks that were made on the device with those that the host makes of the logits."""
    sources = [Source(f"{seed}", partial(grey, seed, 700 + 31 * seed, 640)) for seed in range(9)]
    on_device, on_host = (
        [item.codes() for item in predict(one, sources) if isinstance(item, Prediction)]
        for one in (engine, HostOnly(engine))
    )
    assert len(on_host) == len(sources)
    assert on_device == on_host


def _rate(batches: list[Images], run: Any) -> float:
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in run(batches):
            pass
        times.append(time.perf_counter() - begin)
    return round(sum(map(len, batches)) / median(times), 1)


def _races(people: People) -> str:
    """Stream under torch's sanitizer, which raises where two streams race for a buffer."""
    if not torch.cuda.is_available():
        return "no GPU"
    folder = _newest(people, "eager")
    subprocess.run(
        [sys.executable, "-m", "tests.gpu.races", folder.url],
        env={**os.environ, "TORCH_CUDA_SANITIZER": "1"},
        check=True,
        timeout=180,
    )
    return "none found"


def _refused(people: People) -> dict[str, str]:
    """Return how a TensorRT engine for another place is refused, by this machine's own TensorRT."""
    folder = _newest(people, "tensorrt")
    card = _card(folder).to_mapping()
    told: dict[str, str] = {}
    for changes in (
        {"device": "NVIDIA L4"},
        {"compute_capability": "1.0"},
        {"versions": {**card["versions"], "tensorrt": "1.2.3.4"}},
        {"flavour": "tensorrt_rtx"},
    ):
        with TemporaryDirectory() as work:
            copy = FolderStore(Path(work) / "engine")
            copy.put(card["model"], folder.get(card["model"]))
            write_card(copy, card | changes)
            try:
                open_engine(copy, Path(work) / "work", batch_size=card["batch_size"])
            except ContractError as error:
                told[next(iter(changes))] = str(error)
            else:
                raise AssertionError(f"an engine with {changes} was opened")
    return told


def _run(people: People) -> Store:
    return open_store(str(people.runs)).folder(RUN)


def _card(folder: Store) -> EngineCard:
    return EngineCard.from_text(folder.get(CARD), source=CARD)


def _newest(people: People, kind: str) -> Store:
    """Return the folder of the engine of a kind that was made last, of the usual batch size."""
    run = _run(people)
    folders = [run.folder(f"engine/{key}") for key in run.list_folders("engine")]
    usual = CompileSpec().batch_size
    fitting = [
        folder
        for folder in folders
        if (card := _card(folder)).backend == kind and card.batch_size == usual
    ]
    return max(fitting, key=lambda folder: read_marker(folder).finished)
