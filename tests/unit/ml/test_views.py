from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakSet

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from hbseg import rle
from hbseg.anatomy import NUM_BONES
from hbseg.errors import InvalidInput
from hbseg.ml.engines.card import Images
from hbseg.ml.frame import Grid
from hbseg.ml.native import native_runs
from hbseg.ml.predict import Prediction, Source, Unreadable, predict
from hbseg.ml.views import MAX_SIDE, Picture, PictureLogits, Planes
from tests.engines import SIZE, BrightnessEngine, grey


@dataclass(eq=False)
class Strips:
    """A picture in strips of the network's size, side by side, at its own scale."""

    gray: Picture
    size: int
    taken: list[NDArray[np.float32]] = field(default_factory=list)

    def crops(self) -> Iterator[Picture]:
        for left in range(0, self.gray.shape[1], self.size):
            yield self.gray[:, left : left + self.size]

    def add(self, logits_chw: Planes) -> PictureLogits | None:
        self.taken.append(np.asarray(logits_chw).copy())
        if len(self.taken) < self.gray.shape[1] // self.size:
            return None
        height, width = self.gray.shape
        return PictureLogits(np.concatenate(self.taken, axis=2), Grid(height, width, scale=1))


class StreamingEngine(BrightnessEngine):
    """An engine with one buffer, which takes a batch before it returns the one before it."""

    def stream(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        buffer, taken = torch.empty(0), iter(batches)
        images = next(taken, None)
        while images is not None:
            coming = next(taken, None)
            buffer.fill_(torch.nan)
            buffer = torch.from_numpy(self.logits(images))
            yield buffer
            images = coming


WIDTHS = [64, 192, 128, 64, 320]


def strip_source(index: int) -> Source:
    return Source(f"{index}.png", partial(grey, index, SIZE, WIDTHS[index]))


def refused() -> Picture:
    raise InvalidInput("damaged")


@pytest.mark.parametrize("kind", [BrightnessEngine, StreamingEngine])
def test_crops_of_several_pictures_fill_the_batches(kind: type[BrightnessEngine]) -> None:
    engine = kind(4)
    sources = [strip_source(index) for index in range(5)]
    sources.insert(2, Source("bad.png", refused))
    found = list(predict(engine, sources, look=Strips))
    assert engine.batches == [4, 4, 4]  # 1 + 3 + 2 + 1 + 5 crops
    assert sum(isinstance(item, Unreadable) for item in found) == 1
    masks = [item for item in found if isinstance(item, Prediction)]
    assert [item.path for item in masks] == [f"{index}.png" for index in range(5)]
    for index, item in enumerate(masks):
        picture = grey(index, SIZE, WIDTHS[index])
        assert (item.height, item.width) == picture.shape
        whole = Strips(picture, SIZE)
        for crop in whole.crops():
            logits = whole.add(BrightnessEngine(1).logits(crop[None])[0])
        assert logits is not None
        expected = native_runs(np.asarray(logits.logits_chw), logits.grid)
        assert item.codes() == [rle.to_text(runs) for runs in expected]
        assert any(item.codes())


@pytest.mark.parametrize("number", [0, 1, 4, 9])
def test_a_stream_of_batches_gives_the_same_masks(number: int) -> None:
    sources = [Source(f"{index}", partial(grey, index, 80, 61)) for index in range(number)]
    plain, streamed = (
        [item.codes() for item in predict(engine, sources) if isinstance(item, Prediction)]
        for engine in (BrightnessEngine(4), StreamingEngine(4))
    )
    assert len(plain) == number
    assert plain == streamed


@pytest.mark.parametrize("kind", [BrightnessEngine, StreamingEngine])
def test_a_few_pictures_are_held_whatever_their_number(kind: type[BrightnessEngine]) -> None:
    held: WeakSet[Strips] = WeakSet()

    def look(gray: Picture, size: int) -> Strips:
        view = Strips(gray, size)
        held.add(view)
        return view

    sources = (Source(f"{index}", partial(grey, index, SIZE, 128)) for index in range(60))
    for _ in predict(kind(4), sources, look=look):
        assert len(held) <= 16


@pytest.mark.parametrize("kind", [BrightnessEngine, StreamingEngine])
def test_of_pictures_with_many_crops_one_is_read_ahead(kind: type[BrightnessEngine]) -> None:
    read: list[str] = []

    def load(name: str) -> Picture:
        read.append(name)
        return np.zeros((SIZE, 9 * SIZE), dtype=np.uint8)

    sources = (Source(name, partial(load, name)) for name in "abcdef")
    for done, _ in enumerate(predict(kind(4), sources, look=Strips), start=1):
        assert len(read) <= done + 2
    assert "".join(read) == "abcdef"


@pytest.mark.parametrize("shape", [(SIZE, MAX_SIDE + 1), (MAX_SIDE + 1, SIZE)])
def test_a_picture_whose_square_is_huge_is_not_read(shape: tuple[int, int]) -> None:
    thin = np.broadcast_to(np.uint8(0), shape)
    sources = [Source("thin.png", lambda: thin), strip_source(0)]
    unreadable, found = predict(BrightnessEngine(4), sources)
    assert isinstance(found, Prediction)
    assert isinstance(unreadable, Unreadable)
    size = f"{shape[1]} x {shape[0]}"
    assert str(unreadable.error) == (
        f"thin.png: {size} pixels, expected a longer side of at most 20,000: the picture is padded "
        "to a square; cut out the hand, or scale the picture down"
    )


class OnGpu(Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


class GpuEngine(StreamingEngine):
    def stream(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        return (logits.as_subclass(OnGpu) for logits in super().stream(batches))


def test_logits_on_a_gpu_become_runs_there(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [Source(f"{index}", partial(grey, index, 80, 61)) for index in range(5)]

    def masks(engine: BrightnessEngine) -> list[Prediction | Unreadable]:
        return list(predict(engine, sources, threshold=[0.4] * NUM_BONES, one_piece=True))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the way of a CPU")

    expected = masks(BrightnessEngine(4))
    monkeypatch.setattr("hbseg.ml.predict.native_runs", refuse)
    for mine, theirs in zip(masks(GpuEngine(4)), expected, strict=True):
        assert isinstance(mine, Prediction)
        assert isinstance(theirs, Prediction)
        assert mine.codes() == theirs.codes()


def test_a_failure_of_a_later_picture_leaves_the_masks_before_it() -> None:
    sources = [strip_source(0), Source("bad.png", refused)]
    found = list(predict(StreamingEngine(2), sources, look=Strips))
    assert [item.path for item in found] == ["bad.png", "0.png"]
