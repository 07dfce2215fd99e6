from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from hbseg import rle
from hbseg.errors import InvalidInput, NotFoundError, UnreachableError
from hbseg.ml.frame import Frame
from hbseg.ml.native import native_runs
from hbseg.ml.predict import BATCHES_AHEAD, Prediction, Source, Unreadable, predict
from tests.engines import BATCH, SIZE, BrightnessEngine, grey

SHAPES = [(80, 72), (64, 64), (40, 100), (130, 33), (200, 200), (1, 1), (64, 65)]


def source(index: int) -> Source:
    return Source(f"{index:03}.png", partial(grey, index, *SHAPES[index % len(SHAPES)]))


def broken(path: str, error: Exception) -> Source:
    def load() -> NDArray[np.uint8]:
        raise error

    return Source(path, load)


@pytest.mark.parametrize("number", [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 2])
def test_each_picture_gets_its_own_masks_in_order(number: int) -> None:
    engine = BrightnessEngine(BATCH)
    found = list(predict(engine, map(source, range(number))))
    assert [item.path for item in found] == [f"{index:03}.png" for index in range(number)]
    assert engine.batches == [min(BATCH, number - start) for start in range(0, number, BATCH)]
    for index, item in enumerate(found):
        assert isinstance(item, Prediction)
        shape = SHAPES[index % len(SHAPES)]
        assert (item.height, item.width) == shape
        frame = Frame.of(*shape, SIZE)
        logits = BrightnessEngine(1).logits(frame.to_network(grey(index, *shape))[None])[0]
        assert item.codes() == [rle.to_text(runs) for runs in native_runs(logits, frame)]
        for code in item.codes():
            rle.decode(code, shape)


def area(threshold: float = 0.5, one_piece: bool = False) -> int:
    (found,) = predict(
        BrightnessEngine(BATCH),
        [source(0)],
        threshold=threshold,
        one_piece=one_piece,
    )
    assert isinstance(found, Prediction)
    return sum(rle.area(runs) for runs in found.runs)


def test_threshold_and_one_piece_reach_the_masks() -> None:
    assert 0 < area(threshold=0.9) < area()
    assert 0 < area(one_piece=True) < area()


@pytest.mark.parametrize("error", [InvalidInput("damaged"), NotFoundError("gone")])
def test_an_unreadable_picture_takes_no_place_in_a_batch(error: Exception) -> None:
    engine = BrightnessEngine(2)
    sources = [source(0), broken("bad.png", error), source(1), source(2)]
    found = list(predict(engine, sources))
    assert engine.batches == [2, 1]
    assert [item.path for item in found if isinstance(item, Prediction)] == [
        "000.png",
        "001.png",
        "002.png",
    ]
    assert [item for item in found if isinstance(item, Unreadable)] == [
        Unreadable("bad.png", error)  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("error", [UnreachableError("storage is away"), RuntimeError("a bug")])
def test_any_other_failure_of_a_loader_is_raised(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        list(predict(BrightnessEngine(2), [source(0), broken("x.png", error), source(1)]))


def test_only_a_few_pictures_are_read_ahead() -> None:
    loaded: list[int] = []

    def counted(index: int, load: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        loaded.append(index)
        return load()

    sources = (
        Source(f"{index}", partial(counted, index, source(index).load)) for index in range(200)
    )
    for done, _ in enumerate(predict(BrightnessEngine(2), sources)):
        assert len(loaded) <= done + 2 + BATCHES_AHEAD * 2 + 2
    assert loaded == list(range(200))


def test_who_stops_early_leaves_no_thread_behind() -> None:
    found = predict(BrightnessEngine(1), map(source, range(50)))
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if "pictures" in thread.name]
