from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from hbseg.ml.engines import device
from hbseg.ml.engines.card import Images
from hbseg.ml.engines.device import DevicePipeline
from hbseg.ml.engines.gate import eager_logits
from tests.engines import BATCH, SIZE, LinearNetwork, engine_card, grey
from tests.late_cuda import GpuTensor, LateCuda, LateTorch


def images(number: int, seed: int = 0) -> Images:
    return np.stack([grey(seed + index, SIZE, SIZE) for index in range(number)])


@pytest.fixture
def pipeline() -> DevicePipeline:
    return DevicePipeline(engine_card(), torch.device("cpu"), LinearNetwork().eval())


def test_each_batch_has_the_network_s_own_logits(pipeline: DevicePipeline) -> None:
    batches = [images(BATCH), images(BATCH, 7), images(1, 20)]
    found = [logits.numpy() for logits in pipeline.stream(batches)]
    assert [len(logits) for logits in found] == [BATCH, BATCH, 1]
    for logits, batch in zip(found, batches, strict=True):
        np.testing.assert_array_equal(logits, eager_logits(LinearNetwork(), batch))


def test_a_part_of_a_batch_is_padded_and_cut(pipeline: DevicePipeline) -> None:
    full = pipeline.logits(images(BATCH))
    assert full.dtype == np.float32
    for number in range(1, BATCH):
        np.testing.assert_array_equal(pipeline.logits(images(number)), full[:number])


def test_no_batches_give_no_logits(pipeline: DevicePipeline) -> None:
    assert list(pipeline.stream([])) == []


def test_one_batch_is_taken_ahead_and_no_more(pipeline: DevicePipeline) -> None:
    taken: list[int] = []

    def batches() -> Iterator[Images]:
        for number in range(4):
            taken.append(number)
            yield images(1, number)

    seen = [len(taken) for _ in pipeline.stream(batches())]
    assert seen == [2, 3, 4, 4]


def test_logits_in_host_memory_outlive_the_next_batch() -> None:
    buffer = torch.zeros(BATCH, 29, SIZE, SIZE)

    def network(images_b1hw: Tensor) -> Tensor:
        return buffer.copy_(LinearNetwork()(images_b1hw))

    pipeline = DevicePipeline(engine_card(), torch.device("cpu"), network)
    first = pipeline.logits(images(BATCH))
    pipeline.logits(images(BATCH, 7))
    np.testing.assert_array_equal(first, eager_logits(LinearNetwork(), images(BATCH)))


@pytest.mark.parametrize("prompt", list(product([False, True], repeat=3)))
@pytest.mark.parametrize("number", [1, 5])
def test_on_a_gpu_no_stream_overtakes_another(
    monkeypatch: pytest.MonkeyPatch, prompt: tuple[bool, bool, bool], number: int
) -> None:
    """Rehearsed on `LateCuda`: caller, uploads and computations are each as fast or late as can be.

    The network reuses one buffer for its logits, as the contract allows.
    """
    cuda = LateCuda(*prompt)
    monkeypatch.setattr(device, "torch", LateTorch(cuda))
    buffer = GpuTensor(torch.full((BATCH, 1, SIZE, SIZE), torch.nan))

    def network(images_b1hw: GpuTensor) -> GpuTensor:
        buffer.copy_(images_b1hw, non_blocking=True)
        return buffer

    pipeline = DevicePipeline(engine_card(), torch.device("cuda"), network)  # type: ignore[arg-type]
    batches = [images(BATCH - index % 3, 10 * index) for index in range(number)]
    read = [buffer.read() for _ in pipeline.stream(batches)]
    cuda.caller.synchronize()
    for (found,), batch in zip(read, batches, strict=True):
        np.testing.assert_array_equal(found[: len(batch), 0].numpy(), batch)
        assert not found[len(batch) :].any()


def test_a_stream_that_was_left_early_does_not_disturb_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = LateCuda(False, False, False)
    monkeypatch.setattr(device, "torch", LateTorch(cuda))
    pipeline = DevicePipeline(engine_card(), torch.device("cuda"), lambda images_b1hw: images_b1hw)
    batches = [images(BATCH, 10 * index) for index in range(4)]
    next(iter(pipeline.stream(batches)))
    read = [logits.read() for logits in pipeline.stream(batches)]  # type: ignore[attr-defined]
    cuda.caller.synchronize()
    for (found,), batch in zip(read, batches, strict=True):
        np.testing.assert_array_equal(found[:, 0].numpy(), batch)


@pytest.mark.parametrize("number", [0, BATCH + 1])
def test_images_that_do_not_fit_are_a_bug(pipeline: DevicePipeline, number: int) -> None:
    wrong = np.zeros((number, SIZE, SIZE), dtype=np.uint8)
    with pytest.raises(ValueError, match="expected uint8"):
        pipeline.logits(wrong)
