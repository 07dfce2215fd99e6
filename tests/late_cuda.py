"""CUDA's streams, pretended in host memory: a stand-in for what needs a GPU.

Work is queued, as on a GPU. A stream is prompt (its work is done as soon as what it waits for is
done) or late (its work is done when something waits for it). Between these extremes lies all that a
GPU may do, so work that lacks a wait shows wrong values in one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class LateEvent:
    """What was recorded last; an event that never was is done."""

    def __init__(self) -> None:
        self.wait: Callable[[], None] = lambda: None

    def record(self) -> None:
        done: list[bool] = []
        stream = LateCuda.current
        stream.queue(lambda: done.append(True))
        self.wait = lambda: stream.run_until(lambda: bool(done))

    def synchronize(self) -> None:
        self.wait()


class LateStream:
    def __init__(self, *, prompt: bool) -> None:
        self.prompt = prompt
        self._work: deque[Callable[[], object]] = deque()

    def queue(self, work: Callable[[], object]) -> None:
        self._work.append(work)
        if self.prompt:
            self.run_until(lambda: False)

    def run_until(self, done: Callable[[], bool]) -> None:
        while self._work and not done():
            self._work.popleft()()

    def wait_event(self, event: LateEvent) -> None:
        self.queue(event.wait)  # what was recorded by now, not later

    def wait_stream(self, other: LateStream) -> None:
        event = LateEvent()
        with LateCuda.stream(other):
            event.record()
        self.wait_event(event)

    def synchronize(self) -> None:
        self.run_until(lambda: False)


class GpuTensor:
    """A tensor of the pretended GPU; what is done with it is queued on the current stream."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def copy_(self, source: Tensor | GpuTensor, *, non_blocking: bool = False) -> None:
        assert non_blocking
        values = source.values if isinstance(source, GpuTensor) else source

        @torch.inference_mode()
        def copy() -> None:
            self.values.copy_(values)

        LateCuda.current.queue(copy)

    def float(self) -> GpuTensor:
        found = GpuTensor(torch.full(self.values.shape, torch.nan))
        found.copy_(self, non_blocking=True)
        return found

    def __getitem__(self, index: slice) -> GpuTensor:
        return GpuTensor(self.values[index])

    def read(self) -> list[Tensor]:
        """Queue a copy of the values; the list has it when the current stream was waited for."""
        found: list[Tensor] = []
        LateCuda.current.queue(lambda: found.append(self.values.clone()))
        return found


class LateCuda:
    """`torch.cuda`, with streams that are prompt or late in the order in which they are made."""

    current: LateStream

    def __init__(self, caller: bool, *prompt: bool) -> None:
        LateCuda.current = self.caller = LateStream(prompt=caller)
        self._made = iter(prompt)

    Event = LateEvent

    def Stream(self, device: object) -> LateStream:  # noqa: N802
        return LateStream(prompt=next(self._made))

    @staticmethod
    def current_stream(device: object) -> LateStream:
        return LateCuda.current

    @staticmethod
    @contextmanager
    def stream(stream: LateStream) -> Iterator[None]:
        before, LateCuda.current = LateCuda.current, stream
        try:
            yield
        finally:
            LateCuda.current = before


class LateTorch:
    """torch, with `LateCuda` as its GPU."""

    def __init__(self, cuda: LateCuda) -> None:
        self.cuda = cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def zeros(shape: Any, *, dtype: torch.dtype, **where: Any) -> Any:
        if "device" not in where:
            return torch.zeros(shape, dtype=dtype)
        found = LateTorch.empty(shape, dtype=dtype)
        found.copy_(torch.zeros(shape, dtype=dtype), non_blocking=True)
        return found

    @staticmethod
    def empty(shape: Any, *, dtype: torch.dtype, **where: Any) -> Any:
        wrong = torch.nan if dtype.is_floating_point else 99
        return GpuTensor(torch.full(shape, wrong, dtype=dtype))
