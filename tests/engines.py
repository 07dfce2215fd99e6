"""Small parts of which tests make engines: pictures, networks, cards and folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hbseg.anatomy import BONES, NUM_BONES
from hbseg.ml.engines.card import CARD, EngineCard, Images, Logits, padded
from hbseg.runs.steps import Step
from hbseg.storage.markers import sha256_of, write_marker
from hbseg.storage.store import Store

if TYPE_CHECKING:
    from hbseg.ml.checkpoint import LoadedModel

SIZE = 64
BATCH = 4
MODEL = b"a model"


def grey(seed: int, height: int = 80, width: int = 72) -> NDArray[np.uint8]:
    """A smooth picture with some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    wave = np.sin(rows / rng.uniform(4, 20)) * np.cos(columns / rng.uniform(4, 20))
    pixels = 127 + 90 * wave + rng.uniform(-30, 30, (height, width))
    return np.asarray(pixels, dtype=np.uint8)


def picture(folder: Path, name: str, seed: int, suffix: str = ".png") -> None:
    """Write a picture of a size of its own into a folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(suffix, grey(seed, 60 + seed, 50))
    assert done
    path.write_bytes(data.tobytes())


class LinearNetwork(nn.Module):
    """A network of 58 weights: the logits of each bone are a line through the grey levels."""

    def __init__(self) -> None:
        super().__init__()
        levels = torch.linspace(2, 6, NUM_BONES)
        self.slope = nn.Parameter(torch.full((NUM_BONES,), 1 / 32), requires_grad=False)
        self.offset = nn.Parameter(-levels, requires_grad=False)

    def forward(self, images_b1hw: Tensor) -> Tensor:
        slope, offset = (value[:, None, None] for value in (self.slope, self.offset))
        return images_b1hw * slope + offset


@dataclass(frozen=True)
class LinearModel:
    """What a checkpoint of it would load to."""

    model: LinearNetwork
    card: SimpleNamespace
    weights_sha256: str = "a" * 64


def loaded_model() -> LoadedModel:
    """A network that needs no library of encoders, which takes seconds to load."""
    card = SimpleNamespace(image_size=SIZE, view="whole", classes=BONES)
    return cast("LoadedModel", LinearModel(LinearNetwork().eval(), card))


def engine_card(**changes: Any) -> EngineCard:
    """A card of an ONNX engine whose model file is `MODEL`."""
    values = {
        "backend": "onnx",
        "batch_size": BATCH,
        "channels": 1,
        "height": SIZE,
        "width": SIZE,
        "precision": "fp32",
        "device": "cpu",
        "versions": {"torch": "2", "onnx": "1", "onnxruntime": "1"},
        "checkpoint_sha256": "a" * 64,
        "classes": BONES,
        "model": "model.onnx",
        "model_sha256": sha256_of(MODEL),
    }
    return EngineCard.from_mapping(values | changes, source=CARD)


class BrightnessEngine:
    """Logits that follow the picture's brightness, another level for each bone."""

    def __init__(self, batch_size: int) -> None:
        self.batches: list[int] = []
        self.card = engine_card(batch_size=batch_size)

    def logits(self, images_bhw: Images) -> Logits:
        self.batches.append(len(images_bhw))
        batch = padded(images_bhw, self.card)[: len(images_bhw)] / 32
        levels = np.linspace(2, 6, NUM_BONES, dtype=np.float32)[:, None, None]
        return np.asarray(batch - levels, dtype=np.float32)


def write_card(folder: Store, card: Mapping[str, object]) -> None:
    """Write a card, and the marker that belongs to it."""
    data = json.dumps(card).encode()
    folder.put(CARD, data)
    write_marker(
        folder,
        step=Step.COMPILE,
        spec_hash="5" * 64,
        inputs={},
        outputs={str(card["model"]): str(card["model_sha256"])},
        records={CARD: sha256_of(data)},
    )


def write_engine(folder: Store, **changes: object) -> None:
    """Write an engine whose card may promise what no hbseg of today does."""
    card = engine_card().to_mapping() | changes
    folder.put(engine_card().model, MODEL)
    write_card(folder, card)
