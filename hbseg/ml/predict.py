"""Any number of pictures through an engine: masks as runs, at each picture's own size.

A picture becomes crops (`hbseg.ml.views`), crops of several pictures fill a batch, and the batches
stream through the engine. A thread reads the pictures that come next meanwhile. At any moment only
a few batches are held, whatever the number of pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from threading import Condition
from typing import TYPE_CHECKING

import numpy as np

from hbseg import rle
from hbseg.errors import InvalidInput, NotFoundError
from hbseg.ml.confidence import confidences
from hbseg.ml.engines.card import DeviceEngine, Engine, Images, Logits
from hbseg.ml.native import native_runs
from hbseg.ml.pieces import largest_piece, second_part
from hbseg.ml.views import Look, Picture, PictureLogits, View
from hbseg.ml.windows import look_of

if TYPE_CHECKING:
    from torch import Tensor  # ONNX engines run without torch

BATCHES_AHEAD = 2
"""Batches of crops that are read while the engine works on one; at least a picture is."""


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
    confidences: list[float]
    """How sure the network is of each bone; see `hbseg.ml.confidence`."""
    second_parts: list[float]
    """How large the second part of each mask is, or was before it was left out; see
    `hbseg.ml.pieces`."""
    logits: PictureLogits | None = None
    """What the masks were made of, where it was asked for; valid until the next item is."""

    def codes(self) -> list[str]:
        """Return the run-length code of each bone; an empty mask has an empty text."""
        return [rle.to_text(runs) for runs in self.runs]


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be read, and why."""

    path: str
    error: InvalidInput | NotFoundError


@dataclass(frozen=True)
class Located:
    """The logits of the picture at a path."""

    path: str
    logits: PictureLogits


@dataclass(frozen=True)
class _Viewed:
    """A picture that was read."""

    path: str
    view: View
    crops: Sequence[Picture]


def predict(
    engine: Engine,
    sources: Iterable[Source],
    *,
    threshold: float | Sequence[float] = 0.5,
    one_piece: bool = False,
    look: Look | None = None,
    keep_logits: bool = False,
) -> Iterator[Prediction | Unreadable]:
    """Yield the masks of each picture, in order; see `picture_logits`.

    Args:
        engine: network of a fixed batch size.
        sources: pictures of any sizes.
        threshold: probability above which a pixel belongs to a bone, or one for each bone.
        one_piece: keep only the largest connected part of each bone, and fill its holes.
        look: how the network sees a picture; none: as its card tells.
        keep_logits: give each picture's logits with its masks; they are not copied.
    """
    for item in picture_logits(engine, sources, look):
        if isinstance(item, Unreadable):
            yield item
            continue
        height, width = item.logits.grid.height, item.logits.grid.width
        runs = runs_of(item.logits, threshold=threshold)
        second_parts = [second_part(of_bone, height, width) for of_bone in runs]
        if one_piece:
            runs = [largest_piece(of_bone, height, width) for of_bone in runs]
        sure = confidences(item.logits.logits_chw)
        kept = item.logits if keep_logits else None
        yield Prediction(item.path, height, width, runs, sure, second_parts, kept)


def runs_of(logits: PictureLogits, *, threshold: float | Sequence[float] = 0.5) -> list[rle.Runs]:
    """Return the runs of each bone, see `native_runs`; on a GPU they are found there."""
    planes, grid = logits.logits_chw, logits.grid
    if isinstance(planes, np.ndarray):
        return native_runs(planes, grid, threshold=threshold)
    if planes.is_cuda:
        from hbseg.ml.device_runs import device_runs

        return device_runs(planes, grid, threshold=threshold)
    return native_runs(planes.numpy(), grid, threshold=threshold)


def picture_logits(
    engine: Engine, sources: Iterable[Source], look: Look | None = None
) -> Iterator[Located | Unreadable]:
    """Yield the logits of each picture, in order.

    A picture that cannot be read takes no place in a batch; it is reported as soon as it is met,
    which may be before the pictures of the batches in work. Any other failure of a loader (storage
    that does not answer) is raised. The last, partial batch is padded and cut. Logits are valid
    until the next item is asked for.
    """
    look = look or look_of(engine.card.view)
    ahead = BATCHES_AHEAD * engine.card.batch_size
    with closing(_read_ahead(sources, look, engine.card.height, ahead)) as pictures:
        feed = _Feed(pictures, engine.card.batch_size)
        for logits_bchw in _streamed(engine, feed.batches()):
            yield from feed.left_out()
            for logits_chw in logits_bchw:
                viewed = feed.waiting.popleft()
                logits = viewed.view.add(logits_chw)
                if logits is not None:
                    yield Located(viewed.path, logits)
        yield from feed.left_out()


class _Feed:
    """Batches of crops, and the pictures whose crops are with the engine."""

    def __init__(self, pictures: Iterable[_Viewed | Unreadable], batch_size: int) -> None:
        self._pictures = pictures
        self._batch_size = batch_size
        self._unreadable: deque[Unreadable] = deque()
        self.waiting: deque[_Viewed] = deque()
        """The picture of each crop that the engine has taken and not returned."""

    def batches(self) -> Iterator[Images]:
        """Yield all crops, uint8 [n, size, size]; the last batch may be smaller."""
        batch: list[Picture] = []
        for crop in self._crops():
            batch.append(crop)
            if len(batch) == self._batch_size:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)

    def left_out(self) -> Iterator[Unreadable]:
        """Yield the unreadable pictures that were met since the last call."""
        while self._unreadable:
            yield self._unreadable.popleft()

    def _crops(self) -> Iterator[Picture]:
        for item in self._pictures:
            if isinstance(item, Unreadable):
                self._unreadable.append(item)
                continue
            for crop in item.crops:
                self.waiting.append(item)
                yield crop


def _streamed(engine: Engine, batches: Iterator[Images]) -> Iterator[Logits | Tensor]:
    if isinstance(engine, DeviceEngine):
        return iter(engine.stream(batches))
    return map(engine.logits, batches)


def _read_ahead(
    sources: Iterable[Source], look: Look, size: int, ahead: int
) -> Generator[_Viewed | Unreadable]:
    """Yield what is read of each source; a thread reads on while less than `ahead` crops wait."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="pictures")
    waiting: deque[Future[_Viewed | Unreadable]] = deque()
    shelf = _Shelf(ahead)
    try:
        for source in sources:
            waiting.append(pool.submit(shelf.put, partial(_read, source, look, size)))
            if len(waiting) > ahead:
                yield shelf.take(waiting.popleft())
        while waiting:
            yield shelf.take(waiting.popleft())
    finally:
        shelf.close()
        pool.shutdown(cancel_futures=True)


class _Shelf:
    """Counts the crops that were read and not taken; who reads waits while they are too many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._crops = 0
        self._closed = False
        self._changed = Condition()

    def put(self, read: Callable[[], _Viewed | Unreadable]) -> _Viewed | Unreadable:
        """Read a picture as soon as there is room for one, whatever its crops are."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._crops < self._most)
        item = read()
        self._add(_num_crops(item))
        return item

    def take(self, future: Future[_Viewed | Unreadable]) -> _Viewed | Unreadable:
        """Return a picture once it is read, and make room."""
        item = future.result()
        self._add(-_num_crops(item))
        return item

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _add(self, crops: int) -> None:
        with self._changed:
            self._crops += crops
            self._changed.notify()


def _num_crops(item: _Viewed | Unreadable) -> int:
    return len(item.crops) if isinstance(item, _Viewed) else 0


def _read(source: Source, look: Look, size: int) -> _Viewed | Unreadable:
    try:
        gray = source.load()
    except (InvalidInput, NotFoundError) as error:
        return Unreadable(source.path, error)
    try:
        view = look(gray, size)
    except InvalidInput as error:
        named = InvalidInput(f"{source.path}: {error.message}", error.hint)
        return Unreadable(source.path, named)
    return _Viewed(source.path, view, list(view.crops()))
