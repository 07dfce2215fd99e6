"""Training samples as the network sees them: image and soft labels, computed once, kept on disk.

Bones cover a small part of their 29 planes. So a label travels as the boxes around the bones, and
becomes planes on the device that trains: 0.2 MB a sample instead of 30 at 1024.

Labels are coverage: the share of each network pixel that a bone covers at native size. Hard labels
resampled by nearest neighbour are shifted against the image by up to a native pixel and a half.

For a network that sees windows the picture is kept at native size, and each epoch cuts another
window out of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hbseg.anatomy import BONES, NUM_BONES
from hbseg.config.specs import ViewName
from hbseg.data.annotation import Polygons, bone_masks
from hbseg.data.dataset import Dataset
from hbseg.data.shards import Sample
from hbseg.ml.frame import Frame
from hbseg.ml.windows import Place, Windows
from hbseg.storage.files import replacing

BATCHES_AHEAD = 2
"""Batches that are read while one trains."""
NEAR_A_BONE = 2 / 3
"""Share of the windows whose centre is in the box of a bone; the others are anywhere."""
WINDOW_STREAM = 1
"""Number of the generator of windows, which must not draw the augmentation's numbers."""


@dataclass(frozen=True)
class Coverage:
    """How much of each network pixel each bone covers, in boxes around the bones."""

    boxes: NDArray[np.int32]
    """[29, 4]: left, top, width and height in network pixels."""
    crops: NDArray[np.uint8]
    """The boxes' pixels one after the other; 255 is all of a pixel."""

    def sums(self) -> NDArray[np.float64]:
        """Return the pixels that each bone covers, float64 [29]."""
        stops = np.cumsum(self._areas())[:-1]
        return np.array([box.sum(dtype=np.float64) for box in np.split(self.crops, stops)]) / 255

    def cut(self, place: Place, size: int) -> Coverage:
        """Return the coverage in a window of `size` pixels; boxes beyond it are empty."""
        boxes, crops = np.zeros_like(self.boxes), [np.empty(0, dtype=np.uint8)]
        pixels = np.split(self.crops, np.cumsum(self._areas())[:-1])
        for index, (left, top, width, height) in enumerate(self.boxes.tolist()):
            x0, x1 = max(left, place.left), min(left + width, place.left + size)
            y0, y1 = max(top, place.top), min(top + height, place.top + size)
            if x0 < x1 and y0 < y1:
                box = pixels[index].reshape(height, width)
                crops.append(box[y0 - top : y1 - top, x0 - left : x1 - left].ravel())
                boxes[index] = (x0 - place.left, y0 - place.top, x1 - x0, y1 - y0)
        return Coverage(boxes, np.concatenate(crops))

    def paste(self, planes_chw: Tensor) -> None:
        """Write the boxes into planes of zeros, uint8 [29, S, S], on any device."""
        pixels = torch.from_numpy(self.crops).to(planes_chw.device)
        crops = torch.split(pixels, self._areas().tolist())
        for plane, crop, box in zip(planes_chw, crops, self.boxes.tolist(), strict=True):
            left, top, width, height = box
            plane[top : top + height, left : left + width] = crop.view(height, width)

    def _areas(self) -> NDArray[np.int64]:
        return self.boxes[:, 2].astype(np.int64) * self.boxes[:, 3]


@dataclass(frozen=True)
class NetworkSample:
    """A picture and its label as the network sees them."""

    image_hw: NDArray[np.uint8]
    """[S, S]."""
    coverage: Coverage


@dataclass(frozen=True)
class Batch:
    """Samples of one step of one process."""

    samples: tuple[NetworkSample, ...]
    indices: tuple[int, ...]
    """Each sample's index in its split."""

    def __getitem__(self, chosen: slice) -> Batch:
        """Return a part of the batch."""
        return Batch(self.samples[chosen], self.indices[chosen])

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return images, uint8 [B, S, S], and coverage, uint8 [B, 29, S, S], on a device."""
        images = torch.from_numpy(np.stack([sample.image_hw for sample in self.samples]))
        size = images.shape[-1]
        shape = (len(self.samples), NUM_BONES, size, size)
        planes = torch.zeros(shape, dtype=torch.uint8, device=device)
        for sample, own in zip(self.samples, planes, strict=True):
            sample.coverage.paste(own)
        return images.to(device), planes


class SampleReader:
    """Reads samples of one split at one size; safe to use from several threads.

    Args:
        dataset: where they are.
        samples: those of the split.
        size: side of the network's input, in pixels.
        cache: local folder for samples that were read.
        view: what the network sees of a picture.
        seed: of the windows.
    """

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        size: int,
        cache: Path,
        *,
        view: ViewName = "whole",
        seed: int = 0,
    ) -> None:
        self._dataset = dataset
        self._samples = samples
        self._size = size
        self._view = view
        self._seed = seed
        self._cache = cache / f"{dataset.version}-{view}-{size}"
        self._cache.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, index: int, epoch: int = 0) -> NetworkSample:
        """Return a sample; the first time it is made, and kept. A window is the epoch's own.

        Raises:
            DiskFullError, DeniedError: the sample cannot be kept.
        """
        sample = self._samples[index]
        name = hashlib.sha256(sample.path.encode()).hexdigest()[:32]
        path = self._cache / f"{name}.npz"
        if not path.exists():
            self._keep(path, sample)
        kept, frame = self._kept(path), self._frame(sample)
        if isinstance(frame, Frame):
            return kept
        rng = np.random.default_rng([self._seed, epoch, index, WINDOW_STREAM])
        return window_of(kept, frame, rng)

    def _frame(self, sample: Sample) -> Frame | Windows:
        kind = Frame if self._view == "whole" else Windows
        return kind(sample.height, sample.width, self._size)

    def _keep(self, path: Path, sample: Sample) -> None:
        frame = self._frame(sample)
        picture, polygons = self._dataset.load(sample)
        image = frame.to_network(picture)
        label = coverage(polygons, frame)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, image=image, boxes=label.boxes, crops=label.crops)

    def _kept(self, path: Path) -> NetworkSample:
        with np.load(path, allow_pickle=False) as arrays:
            return NetworkSample(arrays["image"], Coverage(arrays["boxes"], arrays["crops"]))


def window_of(native: NetworkSample, windows: Windows, rng: np.random.Generator) -> NetworkSample:
    """Return a random window of a padded picture: two out of three are centred in a bone's box."""
    near, which, across, down = rng.random(4).tolist()
    size, (rows, columns) = windows.size, windows.shape
    boxes = native.coverage.boxes[native.coverage.boxes[:, 2] > 0]
    top, left = down * (rows - size), across * (columns - size)
    if near < NEAR_A_BONE and len(boxes):
        x, y, width, height = boxes[int(which * len(boxes))].tolist()
        top, left = y + down * height - size / 2, x + across * width - size / 2
    place = Place(
        top=min(max(int(top), 0), rows - size), left=min(max(int(left), 0), columns - size)
    )
    # A copy: a view would keep the whole picture in memory until the window has trained.
    image_hw = windows.cut(native.image_hw, place).copy()
    return NetworkSample(image_hw, native.coverage.cut(place, size))


def coverage(polygons: Polygons, frame: Frame | Windows) -> Coverage:
    """Return how much of each network pixel each bone covers."""
    masks = bone_masks(polygons, (frame.height, frame.width))
    boxes = np.zeros((NUM_BONES, 4), dtype=np.int32)
    crops = [np.empty(0, dtype=np.uint8)]
    for index, bone in enumerate(BONES):
        mask = masks.get(bone)
        if mask is None or mask.crop.size == 0:
            continue
        left, top, crop = _scaled_box(mask.crop, mask.x0, mask.y0, frame)
        boxes[index] = (left, top, crop.shape[1], crop.shape[0])
        crops.append(crop.ravel())
    return Coverage(boxes, np.concatenate(crops))


def _scaled_box(
    crop: NDArray[np.bool_], left: int, top: int, frame: Frame | Windows
) -> tuple[int, int, NDArray[np.uint8]]:
    """Return a mask's box at the network's size.

    The box is widened to whole steps (the smallest number of native pixels that is a whole number
    of network pixels), so that scaling the box alone gives what scaling the picture would.
    """
    native, network = frame.steps
    left, top = left + frame.left, top + frame.top
    first_x, first_y = left // native, top // native
    last_x = -(-(left + crop.shape[1]) // native)
    last_y = -(-(top + crop.shape[0]) // native)
    wide = np.zeros(((last_y - first_y) * native, (last_x - first_x) * native), dtype=np.uint8)
    y, x = top - first_y * native, left - first_x * native
    wide[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    wide *= 255
    size = ((last_x - first_x) * network, (last_y - first_y) * network)
    method = cv2.INTER_AREA if native >= network else cv2.INTER_LINEAR
    scaled = cv2.resize(wide, size, interpolation=method)
    return first_x * network, first_y * network, np.asarray(scaled, dtype=np.uint8)


def epoch_batches(
    *, count: int, global_batch_size: int, seed: int, epoch: int, rank: int, world_size: int
) -> list[tuple[int, ...]]:
    """Return this process's share of each batch of an epoch, as indices.

    The order depends on seed, epoch and global batch size alone. What does not fill a batch is
    left out of this epoch; fewer samples than one batch are repeated to fill it.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    if count < global_batch_size:
        order = np.resize(order, global_batch_size)
    share = global_batch_size // world_size
    batches = order[: len(order) // global_batch_size * global_batch_size].reshape(
        -1, world_size, share
    )
    return [tuple(batch.tolist()) for batch in batches[:, rank]]


def read_ahead(
    reader: SampleReader, batches: Sequence[tuple[int, ...]], *, threads: int, epoch: int = 0
) -> Iterator[Batch]:
    """Yield the batches of an epoch in order; `threads` read the next ones meanwhile."""
    with ThreadPoolExecutor(threads, thread_name_prefix="samples") as pool:
        ahead: list[list[Future[NetworkSample]]] = []
        for number, indices in enumerate(batches):
            while len(ahead) <= min(BATCHES_AHEAD, len(batches) - 1 - number):
                later = batches[number + len(ahead)]
                ahead.append([pool.submit(reader.read, index, epoch) for index in later])
            yield Batch(tuple(future.result() for future in ahead.pop(0)), indices)


def log_odds(reader: SampleReader, *, most: int = 64) -> Tensor:
    """Return the log-odds of each bone's share of the pixels, float32 [29].

    Taken over at most `most` samples, evenly spread; a bone that never occurs counts as one pixel
    of all that was looked at.
    """
    chosen = np.unique(np.linspace(0, len(reader) - 1, min(most, len(reader))).astype(int))
    sums = np.zeros(NUM_BONES)
    pixels = 0
    for index in chosen.tolist():
        sample = reader.read(index)
        sums += sample.coverage.sums()
        pixels += sample.image_hw.size
    share = np.clip(sums, 1, pixels - 1) / pixels
    return torch.from_numpy(np.log(share / (1 - share)).astype(np.float32))
