from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hbseg import rle
from hbseg.anatomy import BONES, NUM_BONES
from hbseg.data.annotation import Polygons, full_masks
from hbseg.data.dataset import Dataset
from hbseg.errors import DiskFullError
from hbseg.ml.frame import Frame
from hbseg.ml.native import native_runs
from hbseg.ml.samples import (
    Batch,
    NetworkSample,
    SampleReader,
    coverage,
    epoch_batches,
    read_ahead,
    window_of,
)
from hbseg.ml.windows import Windows


def bones_of_a_hand(side: int) -> Polygons:
    """Blobs of the bones' true size: 70 to 300 pixels across at 2048."""
    rng = np.random.default_rng(0)
    polygons: Polygons = {}
    for bone in BONES:
        centre = rng.uniform(0.15 * side, 0.85 * side, 2)
        angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
        radius = side / 2048 * rng.uniform(35, 150) * rng.uniform(0.8, 1.2, 40)
        points = centre + np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
        polygons[bone] = [np.round(points).astype(np.int32)]
    return polygons


def planes_of(polygons: Polygons, frame: Frame) -> NDArray[np.uint8]:
    planes = torch.zeros((NUM_BONES, frame.size, frame.size), dtype=torch.uint8)
    coverage(polygons, frame).paste(planes)
    return planes.numpy()


@pytest.mark.parametrize("size", [256, 384, 512])
def test_coverage_in_boxes_is_the_area_average_of_the_whole_mask(size: int) -> None:
    polygons = bones_of_a_hand(2048)
    planes = planes_of(polygons, Frame.of(2048, 2048, size))
    masks = full_masks(polygons, (2048, 2048))
    for plane, mask in zip(planes, masks, strict=True):
        whole = cv2.resize(mask.astype(np.uint8) * 255, (size, size), interpolation=cv2.INTER_AREA)
        assert np.abs(plane.astype(int) - whole).max() <= 1


@pytest.mark.parametrize(("size", "least"), [(512, 0.995), (1024, 0.998)])
def test_labels_survive_the_way_to_the_network_and_back(size: int, least: float) -> None:
    """A perfect network's logits, made of the labels alone, must give the native masks back."""
    polygons = bones_of_a_hand(2048)
    frame = Frame.of(2048, 2048, size)
    share = planes_of(polygons, frame).astype(np.float32) / 255
    runs = native_runs((share - 0.5).astype(np.float32), frame)
    truth = [rle.runs_of(mask) for mask in full_masks(polygons, (2048, 2048))]
    dice = [rle.dice(mine, true) for mine, true in zip(runs, truth, strict=True)]
    assert np.mean(dice) >= least


def test_a_mask_lies_where_the_image_shows_it() -> None:
    """Image and labels go different ways through the code; their centres must agree."""
    polygons = bones_of_a_hand(2048)
    frame = Frame.of(2048, 2048, 256)
    masks = full_masks(polygons, (2048, 2048))
    for index in (0, 7, 20):
        picture = masks[index].astype(np.uint8) * 255
        image = frame.to_network(picture)
        assert np.abs(image.astype(int) - planes_of(polygons, frame)[index]).max() <= 1


def test_a_picture_that_is_no_square_keeps_image_and_labels_together() -> None:
    polygons: Polygons = {
        "Radius": [np.array([[10, 20], [80, 20], [80, 120], [10, 120]], np.int32)]
    }
    frame = Frame.of(150, 100, 64)
    planes = planes_of(polygons, frame)
    mask = full_masks(polygons, (150, 100))[BONES.index("Radius")]
    image = frame.to_network(mask.astype(np.uint8) * 255)
    assert np.abs(image.astype(int) - planes[BONES.index("Radius")]).max() <= 2


def test_the_order_of_an_epoch_is_the_same_for_any_number_of_processes() -> None:
    def batches(rank: int, world_size: int) -> list[tuple[int, ...]]:
        return epoch_batches(
            count=21, global_batch_size=4, seed=5, epoch=2, rank=rank, world_size=world_size
        )

    together = batches(0, 1)
    halves = [first + second for first, second in zip(batches(0, 2), batches(1, 2), strict=True)]
    assert together == halves
    assert len(together) == 5
    seen = [index for batch in together for index in batch]
    assert len(set(seen)) == 20


def test_another_epoch_has_another_order() -> None:
    first, second = (
        epoch_batches(count=16, global_batch_size=4, seed=0, epoch=e, rank=0, world_size=1)
        for e in (0, 1)
    )
    assert first != second


def test_fewer_samples_than_a_batch_are_repeated() -> None:
    batches = epoch_batches(count=3, global_batch_size=8, seed=0, epoch=0, rank=0, world_size=1)
    assert len(batches) == 1
    assert len(batches[0]) == 8
    assert set(batches[0]) == {0, 1, 2}


def test_bilinear_logits_reach_the_same_place_as_torch() -> None:
    logits = torch.randn(1, NUM_BONES, 32, 32)
    frame = Frame.of(96, 96, 32)
    full = F.interpolate(logits, (96, 96), mode="bilinear")[0].numpy() > 0
    areas = [rle.area(runs) for runs in native_runs(logits[0].numpy(), frame)]
    assert np.abs(np.array(areas) - full.sum(axis=(1, 2))).max() <= 2


def test_a_batch_has_planes_only_where_bones_are_and_sums_them_without_any(
    drawn: Dataset, tmp_path: Path
) -> None:
    reader = SampleReader(drawn, drawn.samples("train"), 64, tmp_path)
    samples = tuple(reader.read(index) for index in (0, 1))
    images, planes = Batch(samples, (0, 1)).tensors(torch.device("cpu"))
    _, second = Batch(samples, (0, 1))[1:].tensors(torch.device("cpu"))
    assert torch.equal(images[0], torch.from_numpy(samples[0].image_hw))
    assert torch.equal(planes[1], second[0])
    for sample, own in zip(samples, planes.numpy(), strict=True):
        sums = own.sum(axis=(1, 2), dtype=np.float64) / 255
        assert np.array_equal(sample.coverage.sums(), sums)
        assert (sums > 0).all()


def test_two_threads_may_keep_the_same_sample(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_wrote = threading.Barrier(2)
    replace = os.replace

    def when_both_wrote(source: Path, target: Path) -> None:
        both_wrote.wait(60)
        replace(source, target)

    monkeypatch.setattr(os, "replace", when_both_wrote)
    reader = SampleReader(drawn, drawn.samples("train"), 64, tmp_path)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(reader.read, [0, 0])
    assert np.array_equal(first.coverage.crops, second.coverage.crops)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_a_full_disk_is_named_and_no_part_of_a_sample_is_left(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: BinaryIO, **arrays: object) -> None:
        file.write(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    reader = SampleReader(drawn, drawn.samples("train"), 64, tmp_path)
    with pytest.raises(DiskFullError, match=r"disk full while writing .*npz \(\d+ bytes free\)"):
        reader.read(0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def planes(sample: NetworkSample) -> NDArray[np.uint8]:
    size = sample.image_hw.shape[0]
    pasted = torch.zeros((NUM_BONES, size, size), dtype=torch.uint8)
    sample.coverage.paste(pasted)
    return pasted.numpy()


@pytest.mark.parametrize(("height", "width"), [(200, 200), (160, 100), (51, 120), (60, 53)])
def test_a_window_shows_a_part_of_the_picture_and_the_same_part_of_every_mask(
    height: int, width: int
) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (height, width), dtype=np.uint8)
    polygons = bones_of_a_hand(min(height, width))
    windows = Windows(height, width, 64)
    whole = NetworkSample(windows.to_network(picture), coverage(polygons, windows))
    below = windows.shape[0] - height - windows.top
    right = windows.shape[1] - width - windows.left
    padding = ((windows.top, below), (windows.left, right))
    padded = np.pad(picture, padding, mode="edge")
    masks = np.pad(full_masks(polygons, (height, width)), ((0, 0), *padding))
    corners = sliding_window_view(padded, (64, 64))[:, :, 0, :4]
    for seed in range(5):
        found = window_of(whole, windows, np.random.default_rng(seed))
        ((y, x),) = np.argwhere((corners == found.image_hw[0, :4]).all(axis=2))
        part = (slice(y, y + 64), slice(x, x + 64))
        assert np.array_equal(found.image_hw, padded[part])
        assert np.array_equal(planes(found), masks[:, *part].astype(np.uint8) * 255)


def test_most_windows_are_centred_near_a_bone_and_some_are_anywhere() -> None:
    """A bone in the corner of a large picture, which hardly any window would show by chance."""
    corners = np.array([[300, 300], [340, 300], [340, 340], [300, 340]], np.int32)
    windows = Windows(2048, 2048, 128)
    blank = np.zeros((2048, 2048), dtype=np.uint8)
    whole = NetworkSample(blank, coverage({"Radius": [corners]}, windows))
    shown = [
        window_of(whole, windows, np.random.default_rng(seed)).coverage.sums().sum() > 0
        for seed in range(300)
    ]
    assert 0.5 < np.mean(shown) < 0.85


def test_a_picture_without_bones_has_windows_too() -> None:
    windows = Windows(200, 200, 64)
    whole = NetworkSample(np.zeros((200, 200), dtype=np.uint8), coverage({}, windows))
    found = window_of(whole, windows, np.random.default_rng(0))
    assert found.image_hw.shape == (64, 64)
    assert not found.coverage.sums().any()


def test_windows_differ_by_epoch_and_sample_and_not_by_how_they_are_read(
    drawn: Dataset, tmp_path: Path
) -> None:
    def read(name: str, threads: int, epoch: int, seed: int = 0) -> list[bytes]:
        reader = SampleReader(
            drawn, drawn.samples("train"), 64, tmp_path / name, view="window", seed=seed
        )
        batches = [(4, 1), (0, 2)] if threads == 1 else [(4, 1, 0, 2)]
        return [
            sample.image_hw.tobytes() + sample.coverage.boxes.tobytes()
            for batch in read_ahead(reader, batches, threads=threads, epoch=epoch)
            for sample in batch.samples
        ]

    first = read("a", 1, epoch=3)
    assert len(set(first)) == 4
    assert read("b", 4, epoch=3) == first  # a new cache, other batches
    assert read("a", 4, epoch=3) == first
    assert read("a", 1, epoch=4) != first
    assert read("a", 1, epoch=3, seed=1) != first
