"""The chain from stage 1 to the masks with the default networks: its costs, and what it gives."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from tests.gpu.people import People

RUN = "base"
SHORTER = {
    "1": ("--set", "run.epochs=20", "--set", "run.validate_every=10"),
    "2": ("--set", "run.epochs=12", "--set", "run.validate_every=6"),
}
"""A third of the epochs, and few validations, which take most of a training's time."""


def chain(people: People) -> dict[str, Any]:
    """Run it; return seconds and figures of each step, and the GPU's memory and use."""
    told: dict[str, Any] = {stage: _trained(people, stage) for stage in ("1", "2")}
    for step in (["compile"], ["infer"], ["infer", "--mode", "valid"]):
        seconds = people.hbseg(f"submit-{step[0]}", RUN, *step[1:], "--wait")
        told[" ".join(step)] = round(seconds, 1)
    return told


def _trained(people: People, stage: str) -> dict[str, float]:
    with _watched() as gpu:
        seconds = people.hbseg(*people.train(RUN, stage, *SHORTER[stage]))
    lines = (people.runs / RUN / f"stage{stage}" / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    figures = {
        "seconds": round(seconds, 1),
        "epochs": len(epochs),
        "images_per_second": median(line["images_per_second"] for line in epochs[1:]),
        "first_epoch_images_per_second": epochs[0]["images_per_second"],
        "dice": max(line.get("dice", 0.0) for line in epochs),
        **gpu,
    }
    print(f"stage {stage}: {figures}", flush=True)
    return figures


@contextmanager
def _watched() -> Iterator[dict[str, float]]:
    """Yield a mapping that has memory and use of the GPU at the end, seen four times a second."""
    if shutil.which("nvidia-smi") is None:
        yield {}
        return
    words = [
        "nvidia-smi",
        "--query-gpu=memory.used,utilization.gpu",
        "--format=csv,noheader,nounits",
    ]
    seen: list[tuple[float, float]] = []
    told: dict[str, float] = {}
    with subprocess.Popen([*words, "-lms", "250"], stdout=subprocess.PIPE, text=True) as watch:
        reader = threading.Thread(target=_read, args=(watch, seen))
        reader.start()
        try:
            yield told
        finally:
            watch.kill()
            reader.join()
            told["peak_mib"] = max((memory for memory, _ in seen), default=0.0)
            told["mean_use_percent"] = round(sum(use for _, use in seen) / max(1, len(seen)), 1)


def _read(watch: subprocess.Popen[str], seen: list[tuple[float, float]]) -> None:
    assert watch.stdout
    for line in watch.stdout:
        memory, _, use = line.partition(",")
        if memory.strip().isdigit():
            seen.append((float(memory), float(use)))
