"""The kinds of engines: what compiles one, what runs one, and what its card names.

Another kind is one more module and one more row of `KINDS`. A kind's libraries are imported only
where an engine of that kind is compiled or run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hbseg.config.specs import CompileSpec
from hbseg.errors import ContractError, SpecError
from hbseg.ml.engines.card import (
    CPU,
    Engine,
    EngineCard,
    Flavour,
    TensorRecord,
    Versions,
    compile_again,
    made_again,
)

if TYPE_CHECKING:
    from hbseg.ml.checkpoint import LoadedModel  # it imports torch, which inference has not

Loading = Callable[[], AbstractContextManager[None]]
"""Makes the context in which a kind's libraries are imported."""


@dataclass(frozen=True)
class Compiled:
    """What a compiler reports of the engine that it wrote."""

    versions: Versions
    device: str = CPU
    """GPU model that the engine is for, or `cpu`: any processor."""
    compute_capability: str | None = None
    """Of that GPU, e.g. `9.0`."""
    flavour: Flavour | None = None
    """Which TensorRT it is of."""
    optimization_level: int | None = None
    input: TensorRecord | None = None
    output: TensorRecord | None = None


class Compiler(Protocol):
    """Turns a network into a model file."""

    def __call__(self, spec: CompileSpec, loaded: LoadedModel, path: Path) -> Compiled:
        """Write the engine of a network to `path`.

        The batch is `spec.batch_size` images of the side `loaded.card.image_size`. Files beside
        `path` are scratch.

        Raises:
            SpecError: the kind cannot do what the spec asks for; nothing is written.
        """


class Opener(Protocol):
    """Turns a model file into a network that runs."""

    def __call__(self, path: Path, card: EngineCard, threads: int) -> Engine:
        """Return the engine in `path`, on `threads` CPU threads where it runs on the CPU.

        Raises:
            ContractError: the file is not what the card promises, or cannot run here.
        """


@dataclass(frozen=True)
class EngineKind:
    """A kind of engine; its two functions import its libraries."""

    model_file: str
    """Name of the model file in an engine's folder."""
    libraries: tuple[str, ...]
    """Libraries whose versions the card names."""
    load_compiler: Callable[[], Compiler]
    load_opener: Callable[[], Opener]


def _onnx_compiler() -> Compiler:
    from hbseg.ml.engines.onnx_export import compile_onnx

    return compile_onnx


def _onnx_opener() -> Opener:
    from hbseg.ml.engines.onnx import OnnxEngine

    return OnnxEngine


def _tensorrt_compiler() -> Compiler:
    from hbseg.ml.engines.tensorrt_compile import compile_tensorrt, load_compiler

    load_compiler()
    return compile_tensorrt


def _tensorrt_opener() -> Opener:
    from hbseg.ml.engines.tensorrt import TensorRtEngine

    return TensorRtEngine


def _eager_compiler() -> Compiler:
    from hbseg.ml.engines.eager import compile_eager

    return compile_eager


def _eager_opener() -> Opener:
    from hbseg.ml.engines.eager import open_eager

    return open_eager


KINDS: Mapping[str, EngineKind] = {
    "onnx": EngineKind(
        model_file="model.onnx",
        libraries=("torch", "onnx", "onnxruntime"),
        load_compiler=_onnx_compiler,
        load_opener=_onnx_opener,
    ),
    "tensorrt": EngineKind(
        model_file="model.engine",
        libraries=("tensorrt", "torch_tensorrt", "torch", "cuda"),
        load_compiler=_tensorrt_compiler,
        load_opener=_tensorrt_opener,
    ),
    "eager": EngineKind(
        model_file="model.safetensors",
        libraries=("torch",),
        load_compiler=_eager_compiler,
        load_opener=_eager_opener,
    ),
}
"""Kinds of engines by their name in `CompileSpec.engine` and on the card (`backend`)."""


def kind_to_compile(name: str) -> EngineKind:
    """Return the kind of a name.

    Raises:
        SpecError: this version cannot compile it.
    """
    if name not in KINDS:
        raise SpecError(
            f"engine {name}: this version compiles {', '.join(KINDS)} engines only",
            f"use --engine {next(iter(KINDS))}",
        )
    return KINDS[name]


def kind_of(card: EngineCard) -> EngineKind:
    """Return the kind of an engine.

    Raises:
        ContractError: this version cannot run it, or its card names too few versions.
    """
    kind = KINDS.get(card.backend)
    if kind is None:
        raise ContractError(
            f"engine was compiled for {card.backend} on {card.device}; "
            f"this version runs {', '.join(KINDS)} engines only",
            compile_again("--engine", next(iter(KINDS))),
        )
    missing = [library for library in kind.libraries if library not in card.versions]
    if missing:
        raise ContractError(
            f"engine names no version of {missing[0]}, expected {', '.join(kind.libraries)}",
            made_again(card),
        )
    return kind
