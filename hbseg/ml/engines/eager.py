"""The network itself as an engine, run by torch: what one has before compiling.

The model file is safetensors, without pickle: the weights, and in the metadata the block that
names the architecture. It runs in fp32 on the GPU where there is one, else on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hbseg.config.specs import CompileSpec, ModelBlock
from hbseg.errors import ContractError
from hbseg.ml.checkpoint import put_weights, save_tensors
from hbseg.ml.engines.card import Engine, EngineCard, Images, Logits, compile_again
from hbseg.ml.engines.device import DevicePipeline
from hbseg.ml.engines.kinds import Compiled
from hbseg.ml.model import Segmenter

if TYPE_CHECKING:
    from hbseg.ml.checkpoint import LoadedModel

BLOCK = "model"
"""Key of the metadata: a `ModelBlock` as JSON."""


def compile_eager(spec: CompileSpec, loaded: LoadedModel, path: Path) -> Compiled:
    """Write the weights and the architecture of a network, see `Compiler`."""
    del spec  # no part of it changes the file
    block = loaded.card.model.model_dump_json(exclude={"encoder_weights"})
    save_tensors(loaded.model.state_dict(), path, metadata={BLOCK: block})
    return Compiled(versions={"torch": torch.__version__})


def open_eager(path: Path, card: EngineCard, threads: int) -> Engine:
    """Return the engine in `path`, see `Opener`; on a CUDA device it is a `DeviceEngine`."""
    model = _network(path)
    if not torch.cuda.is_available():
        torch.set_num_threads(threads)
        return EagerEngine(model, card, torch.device("cpu"))
    # torch computes convolutions in TF32 where it is not told otherwise
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    device = torch.device("cuda", torch.cuda.current_device())
    return EagerDeviceEngine(model.to(device), card, device)


class EagerEngine:
    """A network run by torch; bit-equal results for equal threads of the CPU."""

    def __init__(self, model: Segmenter, card: EngineCard, device: torch.device) -> None:
        self._card = card
        self._pipeline = DevicePipeline(card, device, model)

    @property
    def card(self) -> EngineCard:
        """What the engine promises."""
        return self._card

    def logits(self, images_bhw: Images) -> Logits:
        """Return logits, see `Engine.logits`."""
        return self._pipeline.logits(images_bhw)


class EagerDeviceEngine(EagerEngine):
    """The same on a device of torch, whose logits need not leave it."""

    def stream(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        """Yield the logits of each batch, see `DeviceEngine.stream`."""
        return self._pipeline.stream(batches)


def _network(path: Path) -> Segmenter:
    """Return the network in a model file, in evaluation mode, on the CPU."""
    try:
        with safe_open(path, framework="pt") as file:
            block = ModelBlock.model_validate_json((file.metadata() or {}).get(BLOCK, ""))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, ValueError) as error:
        raise ContractError(
            f"{path.name} is not readable as a network: {str(error).splitlines()[0]}",
            compile_again("--engine", "eager", "--again"),
        ) from None
    model = Segmenter(block)
    put_weights(model, weights, source=path.name, block=block)
    return model.eval()
