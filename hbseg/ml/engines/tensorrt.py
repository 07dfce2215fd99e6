"""TensorRT as an engine, on one model of GPU; torch has the buffers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hbseg.errors import ContractError
from hbseg.ml.engines.card import (
    CARD,
    INPUT,
    OUTPUT,
    EngineCard,
    Images,
    Logits,
    TensorRecord,
    made_again,
)
from hbseg.ml.engines.device import DevicePipeline
from hbseg.ml.engines.tensorrt_place import check_place, load_tensorrt, place_for
from hbseg.ml.engines.tensorrt_plan import check_plan


class TensorRtEngine:
    """A plan run by TensorRT on the current GPU; for one thread at a time.

    A plan is native code. It is deserialised last, when its header, its card and this place agree.
    """

    def __init__(self, path: Path, card: EngineCard, threads: int) -> None:
        del threads  # of a CPU
        check_plan(path, card)
        here = place_for(card)
        check_place(card, here)
        trt = load_tensorrt(here.flavour)
        self._card = card
        self._log = _log(trt)  # TensorRT keeps a bare pointer to it
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise self._refusal(f"{here.flavour} {here.version} cannot load {card.model}")
        self._output = check_tensors(trt, self._engine, card)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._refusal(f"{here.gpu.name} cannot hold {card.model}")
        self._pipeline = DevicePipeline(card, _current_device(), self._network)

    @property
    def card(self) -> EngineCard:
        """What the engine promises."""
        return self._card

    def logits(self, images_bhw: Images) -> Logits:
        """Return logits, see `Engine.logits`."""
        return self._pipeline.logits(images_bhw)

    def stream(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        """Yield logits on the GPU, see `DeviceEngine.stream`."""
        return self._pipeline.stream(batches)

    def _network(self, images_b1hw: Tensor) -> Tensor:
        device = images_b1hw.device
        logits = torch.empty(self._output.shape, dtype=torch.float32, device=device)
        for name, buffer in ((INPUT, images_b1hw), (OUTPUT, logits)):
            if not self._context.set_tensor_address(name, buffer.data_ptr()):
                raise RuntimeError(f"TensorRT takes no buffer for {name}: {self._log.first()}")
        if not self._context.execute_async_v3(torch.cuda.current_stream(device).cuda_stream):
            raise RuntimeError(f"TensorRT failed: {self._log.first()}")
        return logits

    def _refusal(self, what: str) -> ContractError:
        return ContractError(f"{what}: {self._log.first()}", made_again(self._card))


def check_tensors(trt: Any, engine: Any, card: EngineCard) -> TensorRecord:
    """Compare the tensors of a deserialised engine with the card; return the output's.

    Raises:
        ContractError: they differ.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]
    for found, promised in ((inputs, card.input), (outputs, card.output)):
        records = [_record(trt, engine, name) for name in found]
        if records != [promised]:
            raise ContractError(
                f"{card.model} has {', '.join(map(str, records)) or 'no tensor'}, "
                f"{CARD} says {promised}",
                made_again(card),
            )
    return _record(trt, engine, outputs[0])


def _record(trt: Any, engine: Any, name: str) -> TensorRecord:
    is_float32 = engine.get_tensor_dtype(name) == trt.DataType.FLOAT
    dtype = "float32" if is_float32 else str(engine.get_tensor_dtype(name))
    return TensorRecord(name=name, shape=tuple(engine.get_tensor_shape(name)), dtype=dtype)


def _current_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


def _log(trt: Any) -> Any:
    """Return a logger of TensorRT's that keeps errors. The first is the cause of the others."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

        def first(self) -> str:
            return self.errors[0].partition("\n")[0] if self.errors else "no reason given"

    return Log()
