"""TensorRT, pretended on the CPU: a stand-in for what needs a GPU.

It has the part of TensorRT's Python that hbseg uses. Its plans have the header of real ones, then
their tensors as JSON, and all of them compute what `LinearNetwork` does, at the addresses that they
are given.
"""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hbseg.anatomy import NUM_BONES
from hbseg.ml.engines import tensorrt, tensorrt_place
from hbseg.ml.engines.card import EngineCard
from hbseg.ml.engines.tensorrt_place import Gpu
from hbseg.storage.markers import sha256_of_file
from tests.engines import BATCH, SIZE, LinearNetwork, engine_card

L4 = Gpu("NVIDIA L4", "8.9")
VERSION = "11.1.0.106"
STREAM = 77
TENSORS = {"images": [BATCH, 1, SIZE, SIZE], "logits": [BATCH, NUM_BONES, SIZE, SIZE]}


def plan(
    tag: bytes = b"ftrt", version: str = VERSION, *, tensors: Mapping[str, list[int]] = {}
) -> bytes:
    """Return a plan; `tensors` are other ones than the usual."""
    numbers = bytes(int(number) for number in version.split("."))
    return tag + bytes(20) + numbers + bytes(4) + json.dumps({**TENSORS, **tensors}).encode()


def write_plan(path: Path, data: bytes | None = None, **changes: Any) -> EngineCard:
    """Write a plan; return its card."""
    path.write_bytes(plan() if data is None else data)
    values = {
        "backend": "tensorrt",
        "device": L4.name,
        "compute_capability": L4.compute_capability,
        "flavour": "tensorrt",
        "optimization_level": 3,
        "input": {"name": "images", "shape": TENSORS["images"]},
        "output": {"name": "logits", "shape": TENSORS["logits"]},
        "versions": {
            "tensorrt": VERSION,
            "torch_tensorrt": "2.14.0",
            "torch": "2.14.1",
            "cuda": "13.0",
        },
        "model": path.name,
        "model_sha256": sha256_of_file(path),
    }
    return engine_card(**(values | changes))


class TensorRt:
    """The module `tensorrt`."""

    __version__ = VERSION

    class TensorIOMode(Enum):
        INPUT = 1
        OUTPUT = 2

    class DataType(Enum):
        FLOAT = 1

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

        def log(self, severity: int, message: str) -> None:
            raise NotImplementedError

    def __init__(self) -> None:
        self.loaded: list[bytes] = []
        """Plans that were deserialised."""
        self.reason = ""
        """Why a plan is not loaded; none: it is."""

    def Runtime(self, log: TensorRt.ILogger) -> Any:  # noqa: N802
        def deserialize(data: bytes) -> _Engine | None:
            self.loaded.append(data)
            if not self.reason:
                return _Engine(json.loads(data[32:]))
            log.log(log.WARNING, "a warning")
            log.log(log.ERROR, f"{self.reason}\nmore of it")
            return None

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


class _Engine:
    """An ICudaEngine, and its context."""

    def __init__(self, tensors: dict[str, list[int]]) -> None:
        self._tensors = tensors
        self._addresses: dict[str, int] = {}
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorRt.TensorIOMode:
        return TensorRt.TensorIOMode["INPUT" if name == "images" else "OUTPUT"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name])

    def get_tensor_dtype(self, name: str) -> TensorRt.DataType:
        return TensorRt.DataType.FLOAT

    def create_execution_context(self) -> _Engine:
        return self

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        images = torch.from_numpy(self._at("images").copy())
        self._at("logits")[:] = LinearNetwork()(images).numpy()
        return stream == STREAM

    def _at(self, name: str) -> Any:
        kind = ctypes.c_float * math.prod(self._tensors[name])
        flat = np.ctypeslib.as_array(kind.from_address(self._addresses[name]))
        return flat.reshape(self._tensors[name])


def install(patch: pytest.MonkeyPatch, gpu: Gpu | None = L4) -> TensorRt:
    """Let this machine have a GPU, whose memory is the CPU's, and TensorRT."""
    module = TensorRt()
    patch.setattr(tensorrt_place, "this_gpu", lambda: gpu)
    patch.setattr(tensorrt_place, "load_tensorrt", lambda flavour: module)
    patch.setattr(tensorrt, "load_tensorrt", lambda flavour: module)
    patch.setattr(tensorrt, "_current_device", lambda: torch.device("cpu"))
    patch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=STREAM))
    return module
