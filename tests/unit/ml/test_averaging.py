from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from hbseg.anatomy import BONES, NUM_BONES
from hbseg.errors import ContractError
from hbseg.ml.averaging import ensemble, flip_averaged
from hbseg.ml.engines.card import DeviceEngine, Engine, Images, Logits
from hbseg.ml.predict import Prediction, Source, predict
from tests.engines import SIZE, BrightnessEngine, engine_card, grey


class LeaningEngine(BrightnessEngine):
    """Logits that follow the brightness, and the column by a slope: no mirror image fits them."""

    def __init__(self, batch_size: int, slope: float = 0.1) -> None:
        super().__init__(batch_size)
        self._slope = slope

    def logits(self, images_bhw: Images) -> Logits:
        columns = np.arange(SIZE, dtype=np.float32) - SIZE / 3
        return np.asarray(super().logits(images_bhw) + self._slope * columns, dtype=np.float32)


class OnDevice(LeaningEngine):
    """The same as a stream into one buffer, which takes a batch ahead."""

    def stream(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        buffer = torch.empty(self.card.batch_size, NUM_BONES, SIZE, SIZE)
        taken = iter(batches)
        images = next(taken, None)
        while images is not None:
            coming = next(taken, None)
            buffer.fill_(torch.nan)
            yield buffer[: len(images)].copy_(torch.from_numpy(self.logits(images)))
            images = coming


def batch(number: int = 3) -> Images:
    return np.stack([grey(index, SIZE, SIZE) for index in range(number)])


def streamed(engine: Engine, batches: Iterable[Images]) -> list[Logits]:
    assert isinstance(engine, DeviceEngine)
    return [logits.numpy().copy() for logits in engine.stream(batches)]


def test_the_mean_with_the_mirror_image_is_that_of_both_hands() -> None:
    engine, images = LeaningEngine(4), batch()
    mirrored = engine.logits(images[:, :, ::-1])[..., ::-1]
    expected = (engine.logits(images) + mirrored) / 2

    found = flip_averaged(engine)

    assert not isinstance(found, DeviceEngine)
    assert found.card == engine.card
    np.testing.assert_allclose(found.logits(images), expected, rtol=0, atol=1e-5)
    assert np.abs(expected - engine.logits(images)).max() > 1
    swapped = found.logits(images[:, :, ::-1])[..., ::-1]
    np.testing.assert_allclose(swapped, expected, rtol=0, atol=1e-5)


def test_the_mean_of_engines_is_that_of_their_logits() -> None:
    engines, images = [LeaningEngine(4, slope) for slope in (0.1, 0.2, -0.6)], batch()
    alone = engines[0].logits(images)

    found = ensemble(engines).logits(images)

    expected = np.mean([engine.logits(images) for engine in engines], axis=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(found - alone).max() > 1
    assert ensemble(engines[:1]) is engines[0]


WAYS: list[Callable[[type[LeaningEngine]], Engine]] = [
    lambda kind: flip_averaged(kind(2)),
    lambda kind: ensemble([kind(2, 0.1), kind(2, -0.2)]),
    lambda kind: flip_averaged(ensemble([kind(2, 0.1), kind(2, -0.2)])),
]


@pytest.mark.parametrize("way", WAYS)
def test_on_a_device_the_means_are_the_same_and_stay_there(
    way: Callable[[type[LeaningEngine]], Engine],
) -> None:
    batches = [batch(2), batch(2)[::-1], batch(1)]
    expected = [way(LeaningEngine).logits(images) for images in batches]

    found = streamed(way(OnDevice), batches)

    assert [logits.shape[0] for logits in found] == [2, 2, 1]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(way(OnDevice).logits(batches[0]), expected[0])


def test_engines_of_which_one_is_on_no_device_are_averaged_on_the_cpu() -> None:
    mixed = ensemble([OnDevice(2, 0.1), LeaningEngine(2, -0.2)])

    assert not isinstance(mixed, DeviceEngine)
    plain = ensemble([LeaningEngine(2, 0.1), LeaningEngine(2, -0.2)])
    np.testing.assert_array_equal(mixed.logits(batch(2)), plain.logits(batch(2)))


def test_averages_take_a_few_batches_at_a_time() -> None:
    engine = flip_averaged(ensemble([OnDevice(2, 0.1), OnDevice(2, -0.2)]))
    loaded: list[int] = []

    def load(index: int) -> Images:
        loaded.append(index)
        return grey(index, SIZE, SIZE)

    sources = (Source(f"{index}", partial(load, index)) for index in range(60))
    for done, item in enumerate(predict(engine, sources)):
        assert isinstance(item, Prediction)
        assert len(loaded) <= done + 14
    assert loaded == list(range(60))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 8}, "engine member2 has batch size 8, the run's engine 4"),
        ({"height": 128, "width": 128}, "engine member2 has input size 128, the run's engine 64"),
        ({"classes": BONES[::-1]}, "engine member2 has its bones in another order"),
    ],
)
def test_an_engine_that_does_not_fit_the_others_is_refused(
    changes: dict[str, object], message: str
) -> None:
    engines = [BrightnessEngine(4) for _ in range(3)]
    engines[2].card = engine_card(**changes)

    with pytest.raises(ContractError, match=f"{message}.*; leave that run out of --with"):
        ensemble(engines)
