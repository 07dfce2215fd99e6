"""The whole chain with the default specs: what it costs on one GPU, and what it gives."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.gpu.people import People

RUN = "base"


def chain(people: People) -> dict[str, Any]:
    """Run it; return seconds, memory and figures of each step."""
    told: dict[str, Any] = {}
    for stage in ("1", "2"):
        with _watched() as gpu:
            seconds = people.hbseg("submit-train", "--stage", stage, "--run", RUN, "--wait")
        lines = (people.runs / RUN / f"stage{stage}" / "metrics.jsonl").read_text().splitlines()
        epochs = [json.loads(line) for line in lines]
        rates = sorted(line["images_per_second"] for line in epochs[1:])
        told[f"stage{stage}"] = {
            "seconds": round(seconds, 1),
            "epochs": len(epochs),
            "images_per_second": rates[len(rates) // 2],
            "first_epoch_images_per_second": epochs[0]["images_per_second"],
            "dice": max(line.get("dice", 0.0) for line in epochs),
            **gpu,
        }
        print(json.dumps(told[f"stage{stage}"]), flush=True)
    for words in (("submit-compile", RUN), ("submit-infer", RUN), ("submit-infer", RUN, "--valid")):
        told[" ".join(words[::2] if len(words) > 2 else words[:1])] = round(
            people.hbseg(*words, "--wait"), 1
        )
    return told


@contextmanager
def _watched() -> Iterator[dict[str, float]]:
    """Yield a mapping that has memory and use of the GPU at the end, seen four times a second."""
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
