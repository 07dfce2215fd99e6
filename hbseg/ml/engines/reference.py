"""On what an engine is compared with its network: pictures that the training did not see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hbseg.config.specs import TrainSpec, ViewName
from hbseg.data.dataset import Dataset
from hbseg.ml.engines.card import Images
from hbseg.ml.frame import Frame
from hbseg.ml.windows import Place, Windows
from hbseg.storage.markers import check_outputs, read_marker, verified
from hbseg.storage.store import Store

NUM_PICTURES = 4
"""Pictures on which an engine is compared with the network."""
TRAIN_SPEC = "spec.yaml"
"""Spec of a finished stage, in its folder."""


def held_out_fold(stage: Store) -> int:
    """Return the fold that a finished stage did not train on.

    Raises:
        NotFoundError: the stage is not done.
        ContractError: its spec is missing or damaged.
    """
    marker = read_marker(stage)
    check_outputs(stage, marker, [TRAIN_SPEC])
    source = f"{stage.url}/{TRAIN_SPEC}"
    data = verified(stage.get(TRAIN_SPEC), marker.outputs[TRAIN_SPEC], source=source)
    return TrainSpec.from_text(data, source=source).dataset.fold


def reference_pictures(dataset: Dataset, fold: int) -> list[NDArray[np.uint8]]:
    """Return up to `NUM_PICTURES` pictures of the held-out fold, evenly over its order."""
    samples = dataset.samples("validation", fold)
    chosen = samples[:: max(1, len(samples) // NUM_PICTURES)][:NUM_PICTURES]
    return [dataset.picture(sample) for sample in chosen]


def seen_at_once(
    pictures: Sequence[NDArray[np.uint8]], size: int, view: ViewName
) -> list[NDArray[np.uint8]]:
    """Return what one input of a network shows of each picture: all, or its middle window."""
    if view == "whole":
        return list(pictures)
    return [_middle(picture, size) for picture in pictures]


def scaled(pictures: Sequence[NDArray[np.uint8]], size: int) -> Images:
    """Return pictures, uint8 [height, width], as the network sees them, uint8 [n, size, size]."""
    frames = [Frame.of(picture.shape[0], picture.shape[1], size) for picture in pictures]
    return np.stack([f.to_network(picture) for f, picture in zip(frames, pictures, strict=True)])


def _middle(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    windows = Windows(picture.shape[0], picture.shape[1], size)
    rows, columns = windows.shape
    middle = Place(top=(rows - size) // 2, left=(columns - size) // 2)
    return windows.cut(windows.to_network(picture), middle)
