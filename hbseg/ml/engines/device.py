"""Batches of pictures through a network on a device of torch: upload beside computation.

Engines that run on torch's devices share this way; what they do with a batch is one function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from hbseg.ml.engines.card import EngineCard, Images, Logits, check_images, padded

Network = Callable[[Tensor], Tensor]
"""Returns logits, float32 [B, 29, h, w], of images float32 [B, 1, H, W], on the images' device.

On CUDA it works on the current stream, and may return before the work is done.
"""


class DevicePipeline:
    """A network on one device, with the buffers that feed it; for one thread at a time."""

    def __init__(self, card: EngineCard, device: torch.device, network: Network) -> None:
        upload = _CudaUpload if device.type == "cuda" else _HostUpload
        self._upload = upload(card, device, network)

    def stream(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        """Yield the logits of each batch, see `DeviceEngine.stream`.

        The next batch is taken from `batches` while the last one is computed.
        """
        logits: Tensor | None = None
        for images_bhw in batches:
            compute = self._upload(images_bhw)
            if logits is not None:
                yield logits
            logits = compute()[: len(images_bhw)]
        if logits is not None:
            yield logits

    def logits(self, images_bhw: Images) -> Logits:
        """Return the logits of one batch in host memory, see `Engine.logits`."""
        (logits,) = self.stream([images_bhw])
        array: Logits = logits.to("cpu", copy=True).numpy()
        return array


class _HostUpload:
    """The way to the CPU: there is nothing to copy."""

    def __init__(self, card: EngineCard, device: torch.device, network: Network) -> None:
        self._card, self._device, self._network = card, device, network

    def __call__(self, images_bhw: Images) -> Callable[[], Tensor]:
        """Return what computes the logits of a batch."""
        images_b1hw = torch.from_numpy(padded(images_bhw, self._card)).to(self._device)

        def compute() -> Tensor:
            with torch.inference_mode():
                return self._network(images_b1hw)

        return compute


@dataclass(frozen=True)
class _Slot:
    """A batch on its way: two of them take turns."""

    pinned_b1hw: Tensor
    """In pinned host memory, which the GPU reads without the CPU."""
    images_b1hw: Tensor
    """On the GPU, uint8: a quarter of the bytes of float32."""
    uploaded: Any = field(default_factory=lambda: torch.cuda.Event())  # type: ignore[no-untyped-call]
    """Event: the pinned buffer was read."""
    taken: Any = field(default_factory=lambda: torch.cuda.Event())  # type: ignore[no-untyped-call]
    """Event: the GPU's buffer was read."""


class _CudaUpload:
    """The way to a GPU: one stream uploads, another one computes.

    The caller's current stream waits for the logits. The next computation waits for what the
    caller has queued there, so that memory of the last logits can be used again.
    """

    def __init__(self, card: EngineCard, device: torch.device, network: Network) -> None:
        shape = (card.batch_size, card.channels, card.height, card.width)
        self._card, self._device, self._network = card, device, network
        self._uploads: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._computations: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        slots = (
            _Slot(
                torch.zeros(shape, dtype=torch.uint8, pin_memory=True),
                torch.zeros(shape, dtype=torch.uint8, device=device),
            )
            for _ in range(2)
        )
        self._slots = cycle(tuple(slots))
        # The buffers were filled on the current stream.
        self._uploads.wait_stream(torch.cuda.current_stream(device))

    def __call__(self, images_bhw: Images) -> Callable[[], Tensor]:
        """Start the upload of a batch; return what queues its computation."""
        check_images(images_bhw, self._card)
        slot = next(self._slots)
        slot.uploaded.synchronize()
        slot.pinned_b1hw[: len(images_bhw), 0] = torch.from_numpy(images_bhw)
        slot.pinned_b1hw[len(images_bhw) :] = 0
        self._uploads.wait_event(slot.taken)
        with torch.cuda.stream(self._uploads):
            slot.images_b1hw.copy_(slot.pinned_b1hw, non_blocking=True)
            slot.uploaded.record()
        return lambda: self._compute(slot)

    def _compute(self, slot: _Slot) -> Tensor:
        caller: Any = torch.cuda.current_stream(self._device)
        self._computations.wait_stream(caller)
        self._computations.wait_event(slot.uploaded)
        with torch.cuda.stream(self._computations), torch.inference_mode():
            images_b1hw = slot.images_b1hw.float()
            slot.taken.record()
            logits = self._network(images_b1hw)
        caller.wait_stream(self._computations)
        return logits
