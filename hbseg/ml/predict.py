"""Any number of pictures through an engine: masks as runs, at each picture's own size.

A thread reads and scales the pictures that come next while the engine works. At any moment only a
few pictures are held, whatever the number of all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbseg import rle
from hbseg.errors import InvalidInput, NotFoundError
from hbseg.ml.confidence import confidences
from hbseg.ml.engines.card import Engine
from hbseg.ml.frame import Frame
from hbseg.ml.native import Logits, native_runs

Picture = NDArray[np.uint8]

BATCHES_AHEAD = 2
"""Batches that are read while the engine works on one."""


@dataclass(frozen=True)
class Source:
    """A picture that is read when its turn comes."""

    path: str
    """Path in its set; the file's name is what a submission calls it."""
    load: Callable[[], Picture]
    """Returns grey levels, uint8 [height, width]."""
    tag: str = ""
    """Changes when the picture is known to have changed, e.g. its size in bytes."""


@dataclass(frozen=True)
class Prediction:
    """The masks of one picture."""

    path: str
    height: int
    width: int
    runs: list[rle.Runs]
    """Of the 29 bones, at native size."""
    confidences: list[float | None]
    """How sure the network is of each bone; see `hbseg.ml.confidence`."""
    logits_chw: Logits | None = None
    """What the masks were made of, float32 [29, side, side], where it was asked for."""

    def codes(self) -> list[str]:
        """Return the run-length code of each bone; an empty mask has an empty text."""
        return [rle.to_text(runs) for runs in self.runs]


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be read, and why."""

    path: str
    error: InvalidInput | NotFoundError


@dataclass(frozen=True)
class _Scaled:
    """A picture as the network sees it."""

    path: str
    frame: Frame
    image_hw: Picture


def predict(
    engine: Engine,
    sources: Iterable[Source],
    *,
    threshold: float = 0.5,
    one_piece: bool = False,
    keep_logits: bool = False,
) -> Iterator[Prediction | Unreadable]:
    """Yield the masks of each picture, in order; one that cannot be read takes no place in a batch.

    An unreadable picture is reported as soon as it is met, which may be before the pictures of the
    batch in work. Any other failure of a loader (storage that does not answer) is raised.

    Args:
        engine: network of a fixed batch size; the last, partial batch is padded and cut.
        sources: pictures of any sizes.
        threshold: probability above which a pixel belongs to a bone.
        one_piece: keep only the largest connected part of each bone, and fill its holes.
        keep_logits: give each picture's logits with its masks; they are not copied.
    """
    batch: list[_Scaled] = []
    for item in _read_ahead(sources, engine.card.height, BATCHES_AHEAD * engine.card.batch_size):
        if isinstance(item, Unreadable):
            yield item
            continue
        batch.append(item)
        if len(batch) == engine.card.batch_size:
            yield from _predicted(engine, batch, threshold, one_piece, keep_logits)
            batch = []
    if batch:
        yield from _predicted(engine, batch, threshold, one_piece, keep_logits)


def _predicted(
    engine: Engine, batch: Sequence[_Scaled], threshold: float, one_piece: bool, keep_logits: bool
) -> Iterator[Prediction]:
    logits_bchw = engine.logits(np.stack([item.image_hw for item in batch]))
    for item, logits_chw in zip(batch, logits_bchw, strict=True):
        runs = native_runs(logits_chw, item.frame, threshold=threshold, one_piece=one_piece)
        yield Prediction(
            item.path,
            item.frame.height,
            item.frame.width,
            runs,
            confidences(logits_chw, threshold=threshold),
            logits_chw if keep_logits else None,
        )


def _read_ahead(sources: Iterable[Source], size: int, ahead: int) -> Iterator[_Scaled | Unreadable]:
    pool = ThreadPoolExecutor(1, thread_name_prefix="pictures")
    waiting: deque[Future[_Scaled | Unreadable]] = deque()
    try:
        for source in sources:
            waiting.append(pool.submit(_read, source, size))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(source: Source, size: int) -> _Scaled | Unreadable:
    try:
        gray = source.load()
    except (InvalidInput, NotFoundError) as error:
        return Unreadable(source.path, error)
    frame = Frame.of(gray.shape[0], gray.shape[1], size)
    return _Scaled(source.path, frame, frame.to_network(gray))
