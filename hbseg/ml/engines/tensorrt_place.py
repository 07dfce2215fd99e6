"""The place that runs a TensorRT engine: a GPU, and a version of TensorRT."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import torch

from hbseg.errors import ContractError
from hbseg.ml.engines.card import EngineCard, Flavour, compile_again, made_again
from hbseg.runs.engines import compile_flags


class Gpu(NamedTuple):
    """A kind of GPU."""

    name: str
    """Model as CUDA names it, e.g. `NVIDIA H100 80GB HBM3`."""
    compute_capability: str
    """E.g. `9.0`."""


class Place(NamedTuple):
    """A GPU with a TensorRT."""

    gpu: Gpu
    flavour: Flavour
    version: str
    """Of TensorRT, four numbers."""


def this_gpu() -> Gpu | None:
    """Return this process's current GPU; none where no NVIDIA GPU is visible."""
    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Gpu(found.name, f"{found.major}.{found.minor}")


def load_tensorrt(flavour: Flavour) -> Any:
    """Return TensorRT's module.

    Raises:
        ContractError: it is not installed, or a library of it is missing.
    """
    try:
        return importlib.import_module(flavour)
    except (ImportError, OSError) as error:
        raise ContractError(
            f"engine was compiled for {flavour}, which does not load here: {first_line(error)}",
            "run the step in the tensorrt image",
        ) from None


def place_for(card: EngineCard) -> Place:
    """Return the place here, for an engine's flavour.

    Raises:
        ContractError: there is no GPU, or no TensorRT of that flavour.
    """
    gpu = this_gpu()
    if gpu is None:
        raise ContractError(
            f"engine was compiled for {card.device}, here is no NVIDIA GPU",
            compile_again(*compile_flags(card.batch_size, "onnx", None)),
        )
    flavour = card.flavour or "tensorrt"
    return Place(gpu, flavour, load_tensorrt(flavour).__version__)


def check_place(card: EngineCard, here: Place) -> None:
    """Refuse an engine that was compiled for another place.

    A plan is for one version of TensorRT only. TensorRT accepts another GPU of the same compute
    capability with a warning, but such an engine may be slow or fail, NVIDIA's documentation says.

    Raises:
        ContractError: names the first thing that differs.
    """
    for what, wanted, found in (
        ("compute capability ", card.compute_capability, here.gpu.compute_capability),
        ("", card.device, here.gpu.name),
        (f"{here.flavour} ", card.versions["tensorrt"], here.version),
    ):
        if wanted != found:
            raise ContractError(
                f"engine was compiled for {what}{wanted}, here is {what}{found}",
                made_again(card.model_copy(update={"device": here.gpu.name})),
            )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return str(error).partition("\n")[0] or type(error).__name__
