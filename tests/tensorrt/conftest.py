"""TensorRT-RTX builds engines on a machine without a GPU: `make test-tensorrt`.

Its packages are in an environment of their own; elsewhere these tests are not collected.

torch_tensorrt's own lowering and converters run, and TensorRT-RTX's own builder makes the plan.
Stand-ins take the GPU's place: answers to questions about it, and the Runtime that torch_tensorrt
opens a finished plan with, only to serialise it again. Nothing of this can run an engine.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hbseg.ml.engines import tensorrt_compile, tensorrt_place
from hbseg.ml.engines.tensorrt_place import Gpu

collect_ignore_glob = [] if importlib.util.find_spec("tensorrt_rtx") else ["test_*.py"]

RTX = Gpu("NVIDIA GeForce RTX 4090", "8.9")


class StandInRuntime:
    """Gives back the plan that torch_tensorrt would deserialise and serialise again."""

    def __init__(self, logger: object) -> None:
        pass

    def deserialize_cuda_engine(self, plan: Any) -> object:
        return SimpleNamespace(serialize=lambda: plan, get_aliased_input_tensor=lambda name: None)


@pytest.fixture(scope="session")
def trt() -> Iterator[Any]:
    """TensorRT as torch_tensorrt sees it, on a machine whose GPU is pretended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 9))
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "mem_get_info", lambda *_: (2**34, 2**34))
        patch.setattr(tensorrt_compile, "this_gpu", lambda: RTX)
        patch.setattr(tensorrt_place, "this_gpu", lambda: RTX)
        importlib.import_module("torch_tensorrt")
        tensorrt = importlib.import_module("tensorrt")  # the name that torch_tensorrt gave it
        patch.setattr(tensorrt, "Runtime", StandInRuntime)
        yield tensorrt


@dataclass(frozen=True)
class Built:
    """What a builder was given."""

    network: Any
    config: Any


@pytest.fixture
def builds(trt: Any, monkeypatch: pytest.MonkeyPatch) -> list[Built]:
    """Each build, in order."""
    seen: list[Built] = []

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._real = trt._target_module.Builder(logger)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            seen.append(Built(network, config))
            return self._real.build_serialized_network(network, config)

    monkeypatch.setattr(trt, "Builder", Builder)
    return seen
