from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hbseg import rle
from hbseg.anatomy import NUM_BONES
from hbseg.errors import InvalidInput
from hbseg.ml.engines.card import Images
from hbseg.ml.frame import Frame
from hbseg.ml.native import Logits, native_runs
from hbseg.ml.predict import Prediction, Source, predict
from hbseg.ml.views import PictureLogits
from hbseg.ml.windows import GRID, Buffer, WindowedPicture, Windows, gaussian
from tests.engines import BrightnessEngine, engine_card, grey

WINDOW = 64
SHAPES = [(256, 256), (251, 190), (90, 203), (65, 64), (64, 64), (40, 50), (1, 1), (130, 30)]


def pixelwise(images_khw: NDArray[np.uint8], stride: int) -> Logits:
    """A network whose logits depend on the grey levels below each logit alone; none is near 0."""
    count, height, width = images_khw.shape
    cells = images_khw.reshape(count, height // stride, stride, width // stride, stride)
    levels = np.linspace(20.137, 230.411, NUM_BONES, dtype=np.float32)[:, None, None]
    means = cells.mean(axis=(2, 4), dtype=np.float32)
    return np.asarray((means[:, None] - levels) / 32, dtype=np.float32)


def blended(
    gray: NDArray[np.uint8], stride: int, buffer: Buffer, device: type = np.ndarray
) -> PictureLogits:
    view = WindowedPicture(gray, WINDOW, buffer)
    found = None
    for crop in view.crops():
        assert found is None
        logits = pixelwise(crop[None], stride)[0]
        found = view.add(logits if device is np.ndarray else torch.from_numpy(logits))
    assert found is not None
    return found


def codes(found: PictureLogits) -> list[str]:
    return [rle.to_text(runs) for runs in native_runs(np.asarray(found.logits_chw), found.grid)]


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_masks_of_windows_are_those_of_the_whole_picture_in_every_pixel(
    height: int, width: int, stride: int
) -> None:
    gray = grey(3, height, width)
    windows = Windows(height, width, WINDOW)
    whole = pixelwise(windows.to_network(gray)[None], stride)[0]
    expected = codes(PictureLogits(whole, windows.grid(stride)))
    assert codes(blended(gray, stride, Buffer())) == expected
    assert min(height, width) == 1 or sum(map(len, expected)) > 1000


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_windows_are_on_the_grid_of_a_network_that_sees_the_whole_picture(stride: int) -> None:
    gray = grey(4, 192, 192)
    frame = Frame.of(192, 192, 192)
    whole = PictureLogits(pixelwise(gray[None], stride)[0], frame.grid(192 // stride))
    assert codes(blended(gray, stride, Buffer())) == codes(whole)


@pytest.mark.parametrize(("height", "width"), [(150, 117), (64, 203), (31, 29)])
def test_masks_at_native_size_are_the_network_s_own_and_not_shifted(
    height: int, width: int
) -> None:
    gray = grey(5, height, width)
    expected = pixelwise(gray[None], stride=1)[0] > 0
    found = blended(gray, 1, Buffer())
    assert codes(found) == [rle.encode(mask) for mask in expected]


def test_pictures_of_any_size_share_one_buffer_on_any_device() -> None:
    arrays, tensors = Buffer(), Buffer()
    for number, (height, width) in enumerate(SHAPES):
        gray = grey(number, height, width)
        alone = blended(gray, 2, Buffer())
        assert codes(blended(gray, 2, arrays)) == codes(alone)
        on_device = blended(gray, 2, tensors, torch.Tensor)
        assert isinstance(on_device.logits_chw, torch.Tensor)
        assert np.array_equal(on_device.logits_chw.numpy(), alone.logits_chw)


@pytest.mark.parametrize("length", [*range(1, 400, 31), 2048, 3001])
def test_windows_share_half_cover_the_picture_and_end_at_its_edge(length: int) -> None:
    windows = Windows(length, 96, WINDOW)
    tops = windows.tops
    assert all(top % GRID == 0 for top in tops)
    assert np.diff(tops).max(initial=0) <= WINDOW / 2
    assert tops[0] == 0 <= windows.top
    assert windows.top + length <= tops[-1] + WINDOW == windows.shape[0]
    assert windows.shape[0] - length < GRID or windows.shape[0] == WINDOW


def test_a_picture_smaller_than_a_window_repeats_its_edge() -> None:
    gray = grey(1, 20, 30)
    (window,) = WindowedPicture(gray, WINDOW, Buffer()).crops()
    expected = np.pad(gray, ((22, 22), (17, 17)), mode="edge")
    assert np.array_equal(window, expected)


def test_a_picture_whose_logits_are_huge_is_refused() -> None:
    gray = np.broadcast_to(np.uint8(0), (10_000, 10_000))
    with pytest.raises(InvalidInput) as raised:
        WindowedPicture(gray, WINDOW, Buffer())
    assert str(raised.value) == (
        "10000 x 10000 pixels: the logits of windows would take 10.8 GiB, expected at most 2.0 GiB;"
        " scale the picture down, or take a network that sees the whole picture"
    )
    WindowedPicture(gray[:4096, :4096], WINDOW, Buffer())


def test_weights_fall_from_the_centre_as_a_gaussian_and_are_never_0() -> None:
    weights = gaussian(WINDOW)
    assert weights.min() > 0
    assert np.array_equal(weights, weights[::-1])
    assert weights[WINDOW // 2 + 8] / weights[WINDOW // 2] == pytest.approx(
        np.exp(-((8.5 / 8) ** 2 - (0.5 / 8) ** 2) / 2), rel=1e-5
    )


def test_where_windows_disagree_the_one_whose_centre_is_nearer_counts_more() -> None:
    """Against the plain mean by weights, of windows of a constant each."""
    places = Windows(100, 96, WINDOW).places()
    assert len({place.left for place in places}) == 2
    view = WindowedPicture(grey(0, 100, 96), WINDOW, Buffer())
    weights = np.outer(gaussian(WINDOW), gaussian(WINDOW)).astype(np.float64)
    total, sums = np.zeros((100, 96)), np.zeros((100, 96))
    for value, place in enumerate(places):
        found = view.add(np.full((NUM_BONES, WINDOW, WINDOW), value, dtype=np.float32))
        total[place.top :, place.left :][:WINDOW, :WINDOW] += weights
        sums[place.top :, place.left :][:WINDOW, :WINDOW] += weights * value
    assert found is not None
    np.testing.assert_allclose(found.logits_chw[7], sums / total, rtol=1e-4, atol=1e-5)


class PixelwiseEngine(BrightnessEngine):
    """An engine of half the resolution, whose card says what it is fed."""

    def __init__(self, batch_size: int, view: str) -> None:
        super().__init__(batch_size)
        self.card = engine_card(batch_size=batch_size, view=view)

    def logits(self, images_bhw: Images) -> Logits:
        self.batches.append(len(images_bhw))
        return pixelwise(images_bhw, 2)


def test_an_engine_gets_windows_where_its_card_says_so_and_only_there() -> None:
    shapes = [(130, 64), (64, 64), (40, 100)]
    sources = [Source(f"{n}.png", partial(grey, n, *shape)) for n, shape in enumerate(shapes)]
    engine = PixelwiseEngine(4, "window")
    found = list(predict(engine, sources))
    assert engine.batches == [4, 4]  # 5 + 1 + 2 windows
    for number, (item, (height, width)) in enumerate(zip(found, shapes, strict=True)):
        assert isinstance(item, Prediction)
        assert (item.height, item.width) == (height, width)
        assert item.codes() == codes(blended(grey(number, height, width), 2, Buffer()))
    whole = PixelwiseEngine(4, "whole")
    assert len(list(predict(whole, sources))) == 3
    assert whole.batches == [3]
