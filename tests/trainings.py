"""All that a training left behind, for comparing two of them bit for bit."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hbseg.storage.store import Store


@dataclass(frozen=True)
class Left:
    """The network is the best epoch's, perhaps an early one: here is what the last step left."""

    last: dict[str, str]
    """sha256 of the last checkpoint's files: weights, their average, the optimiser's moments."""
    metrics: list[dict[str, object]]
    """Lines of metrics.jsonl, without the time that they took."""


def left_by(stage: Store) -> Left:
    """Return what a training stage left in its folder."""
    step = max(name for name in stage.list_folders("checkpoints") if name.isdecimal())
    state = json.loads(stage.get(f"checkpoints/{step}/state.json"))
    lines = [json.loads(line) for line in stage.get("metrics.jsonl").splitlines()]
    for line in lines:
        del line["images_per_second"]
    return Left(state["files"], lines)
