"""Averages of logits: of a picture and its mirror image, and of several engines.

Both are engines themselves. Where the engines leave their logits on a device, the averages stay
there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import tee
from typing import TYPE_CHECKING

import numpy as np

from hbseg.errors import ContractError
from hbseg.ml.engines.card import DeviceEngine, Engine, EngineCard, Images, Logits

if TYPE_CHECKING:
    from torch import Tensor  # ONNX engines run without torch


def flip_averaged(engine: Engine) -> Engine:
    """Return an engine whose logits are the mean of a picture's and of its mirror image's.

    A mirrored hand is the other hand, with the same bones; the mirror image's logits are mirrored
    back. Each call costs two.
    """
    return _DeviceFlip(engine) if isinstance(engine, DeviceEngine) else _Flip(engine)


def ensemble(engines: Sequence[Engine]) -> Engine:
    """Return an engine whose logits are the mean of those of several engines, at least one.

    Its card is the first engine's.

    Raises:
        ContractError: batch sizes, input sizes or class orders differ.
    """
    first, *others = engines
    for number, other in enumerate(others, start=1):
        _check_alike(first.card, other.card, number)
    if not others:
        return first
    on_device = [engine for engine in engines if isinstance(engine, DeviceEngine)]
    return _DeviceEnsemble(on_device) if len(on_device) == len(engines) else _Ensemble(engines)


def _check_alike(card: EngineCard, other: EngineCard, number: int) -> None:
    for what, own, found in (
        ("batch size", card.batch_size, other.batch_size),
        ("input size", card.height, other.height),
    ):
        if own != found:
            raise ContractError(
                f"engine member{number} has {what} {found}, the run's engine {own}",
                "leave that run out of --with",
            )
    if card.classes != other.classes:
        raise ContractError(
            f"engine member{number} has its bones in another order than the run's engine",
            "leave that run out of --with",
        )


class _Flip:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def card(self) -> EngineCard:
        return self._engine.card

    def logits(self, images_bhw: Images) -> Logits:
        straight = self._engine.logits(images_bhw)
        straight = straight + self._engine.logits(_mirrored(images_bhw))[..., ::-1]
        straight *= np.float32(0.5)
        return straight


class _DeviceFlip(_Flip):
    def __init__(self, engine: DeviceEngine) -> None:
        super().__init__(engine)
        self._on_device = engine

    def stream(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        both = (part for images in batches for part in (images, _mirrored(images)))
        found = iter(self._on_device.stream(both))
        for logits in found:
            mean = logits.clone()  # the next one may overwrite it
            mean += next(found).flip(-1)
            mean *= 0.5
            yield mean


class _Ensemble:
    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines

    @property
    def card(self) -> EngineCard:
        return self._engines[0].card

    def logits(self, images_bhw: Images) -> Logits:
        first, *others = self._engines
        mean = first.logits(images_bhw).copy()
        for engine in others:
            mean += engine.logits(images_bhw)
        mean /= np.float32(len(self._engines))
        return mean


class _DeviceEnsemble(_Ensemble):
    def __init__(self, engines: Sequence[DeviceEngine]) -> None:
        super().__init__(engines)
        self._on_device = engines

    def stream(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        copies = tee(batches, len(self._on_device))
        streams = [engine.stream(own) for engine, own in zip(self._on_device, copies, strict=True)]
        for first, *others in zip(*streams, strict=True):
            mean = first.clone()
            for logits in others:
                mean += logits.to(mean.device)
            mean /= len(streams)
            yield mean


def _mirrored(images_bhw: Images) -> Images:
    return np.ascontiguousarray(images_bhw[:, :, ::-1])
