"""The engine's contract: what an engine is, and all that it promises.

`engine.json` beside the model file is the card; a promise that does not fit what is asked for is
refused in one sentence that names both and the next step.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hbseg.anatomy import BONES, NUM_BONES
from hbseg.config.specs import ViewName
from hbseg.documents import Block, Count, Document
from hbseg.errors import ContractError
from hbseg.runs.engines import compile_flags
from hbseg.runs.steps import SHORT

if TYPE_CHECKING:
    from torch import Tensor  # ONNX engines run without torch

CARD = "engine.json"
CPU = "cpu"
"""Device of an engine that runs on any processor."""
INPUT = "images"
OUTPUT = "logits"
NEAR_DECISION = 2.0
"""|logit| below which a pixel is near the decision: its probability is between 0.12 and 0.88."""

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Versions = Annotated[dict[str, str], Field(min_length=1)]
"""Name of each library that made an engine: its version. Which ones, the engine's kind decides."""
Flavour = Literal["tensorrt", "tensorrt_rtx"]
"""TensorRT, or TensorRT-RTX for GeForce and RTX cards: neither loads the other's engines."""


class Agreement(Block):
    """How an engine's logits and masks compare with the eager network's (`engines.gate`)."""

    pictures: Count
    """Pictures that were compared."""
    largest_difference: float
    """Largest |logit difference| of all pixels and bones."""
    mean_difference: float
    """Mean |logit difference| of all pixels and bones."""
    largest_near_decision: float
    """Largest |logit difference| where |eager logit| < `NEAR_DECISION`; elsewhere it decides
    nothing."""
    bone: str
    """Bone that has it."""
    flipped_pixels: Annotated[int, Field(ge=0)]
    """Pixels, of all bones' planes at the network's output size, that are in one of both masks."""
    flipped_share: float
    """Those as a share of all."""
    dice_by_bone: dict[str, float]
    """Bone: Dice of the engine's masks against the network's at native size, mean over pictures.
    Two empty masks count as 1."""

    @property
    def worst_bone(self) -> str:
        """Bone with the smallest Dice."""
        return min(self.dice_by_bone, key=self.dice_by_bone.__getitem__)

    def figures(self) -> dict[str, float]:
        """Return the figures that the marker and the pipeline show."""
        return {
            "largest_near_decision": self.largest_near_decision,
            "flipped_share": self.flipped_share,
            "dice": fmean(self.dice_by_bone.values()),
            "smallest_dice": self.dice_by_bone[self.worst_bone],
        }


class TensorRecord(Block):
    """A tensor that goes into an engine or comes out."""

    name: str
    shape: tuple[Count, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {' x '.join(map(str, self.shape))}"


class EngineCard(Document):
    """`engine.json`: what an engine promises."""

    kind: Literal["Engine"] = "Engine"
    backend: str
    """Kind of engine, a key of `KINDS`."""
    batch_size: Count
    """Images of one call; fixed."""
    channels: Count
    height: Count
    """Rows of the input, in pixels."""
    width: Count
    """Columns of the input, in pixels."""
    view: ViewName = "whole"
    """What the input is: a whole picture, scaled, or a window of native pixels."""
    precision: str
    device: str
    """GPU model that the engine is for, or `cpu`: any processor."""
    compute_capability: str | None = None
    """Of that GPU, e.g. `9.0`."""
    flavour: Flavour | None = None
    """Which TensorRT made the engine, and runs it."""
    optimization_level: int | None = None
    """Effort of the compiler, where its kind has such a choice."""
    input: TensorRecord | None = None
    output: TensorRecord | None = None
    versions: Versions
    checkpoint_sha256: Sha256
    """Of the weights that were compiled."""
    fold: Annotated[int, Field(ge=0)] = 0
    """Fold of the dataset that was held out in the training."""
    classes: tuple[str, ...]
    """Bones in the order of the logits."""
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the model file in the engine's folder."""
    model_sha256: Sha256
    agreement: Agreement | None = None
    """Comparison with the eager network; none: not measured yet."""

    def figures(self) -> dict[str, float]:
        """Return what the marker says of the engine."""
        return {} if self.agreement is None else self.agreement.figures()


class Engine(Protocol):
    """A network of fixed batch size."""

    @property
    def card(self) -> EngineCard:
        """What the engine promises."""

    def logits(self, images_bhw: Images) -> Logits:
        """Return logits, float32 [n, 29, h, w], of images uint8 [n, H, W].

        A batch of fewer than `batch_size` images (n at least 1) is padded and the padding's
        logits are cut off. h and w are H and W divided by the network's output stride.
        """


@runtime_checkable
class DeviceEngine(Engine, Protocol):
    """An engine on a device of torch, whose logits need not leave it."""

    def stream(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        """Yield the logits of each batch, float32 [n, 29, h, w], on the engine's device.

        The next batch is uploaded while the last one is computed. A tensor that was yielded is
        valid until the next one is asked for.
        """


def check_card(
    card: EngineCard,
    *,
    batch_size: int,
    checkpoint_sha256: str | None = None,
    kind: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    size: int | None = None,
) -> None:
    """Refuse an engine that is not what is asked for; none: any.

    Args:
        card: what the engine promises.
        batch_size: images of one call.
        checkpoint_sha256: weights that it must come from.
        kind: kind of engine.
        device: GPU model, or `cpu`; it is asked for together with its kind.
        precision: of the arithmetic.
        size: side of the input, in pixels.

    Raises:
        ContractError: classes, input, kind, device, batch size, precision, checkpoint or size
            differ.
        ValueError: a device without its kind.
    """
    if device is not None and kind is None:
        raise ValueError(f"device {device} is asked for without its kind of engine")
    _check_classes(card)
    _check_input(card)
    for what, found, asked in (
        ("", card.backend, kind),
        ("device ", card.device, device),
        ("batch size ", card.batch_size, batch_size),
    ):
        if asked not in (None, found):
            raise ContractError(
                f"engine was compiled for {what}{found}, asked for {asked}",
                compile_again(*compile_flags(batch_size, kind, device)),
            )
    if precision is not None and precision != card.precision:
        raise ContractError(
            f"engine was compiled with precision {card.precision}, asked for {precision}",
            compile_again(*compile_flags(batch_size, kind, device, precision)),
        )
    if checkpoint_sha256 not in (None, card.checkpoint_sha256):
        raise ContractError(
            f"engine was compiled from weights {card.checkpoint_sha256[:SHORT]}, "
            f"asked for {str(checkpoint_sha256)[:SHORT]}",
            compile_again(),
        )
    if size not in (None, card.height):
        raise ContractError(
            f"engine was compiled for input size {card.height}, asked for {size}",
            compile_again(*compile_flags(batch_size, kind, device)),
        )


def check_images(images_bhw: Images, card: EngineCard) -> None:
    """Check that images, uint8 [n, H, W], fit into one call of an engine.

    Raises:
        ValueError: no images, more than a batch, or of another size or type.
    """
    number, *size = images_bhw.shape
    fits = 1 <= number <= card.batch_size and size == [card.height, card.width]
    if not fits or images_bhw.dtype != np.uint8:
        raise ValueError(
            f"images are {images_bhw.dtype} {images_bhw.shape}, expected uint8 "
            f"(1 to {card.batch_size}, {card.height}, {card.width})"
        )


def padded(images_bhw: Images, card: EngineCard) -> Logits:
    """Return images, uint8 [n, H, W], as a full batch, float32 [B, 1, H, W], padded with 0.

    Raises:
        ValueError: see `check_images`.
    """
    check_images(images_bhw, card)
    batch = np.zeros((card.batch_size, 1, card.height, card.width), dtype=np.float32)
    batch[: len(images_bhw), 0] = images_bhw
    return batch


def compile_again(*options: str) -> str:
    """Return the hint to compile, with options of the command."""
    return f"run: {shlex.join(['hbseg', 'submit-compile', 'RUN', *options])}"


def made_again(card: EngineCard) -> str:
    """Return the hint to make an engine again in its place, where its own files are wrong."""
    flags = compile_flags(card.batch_size, card.backend, card.device, card.precision)
    return compile_again(*flags, "--again")


def _check_input(card: EngineCard) -> None:
    if (card.channels, card.height) != (1, card.width):
        raise ContractError(
            f"engine takes {card.channels} x {card.height} x {card.width} values, "
            "expected one channel and a square",
            made_again(card),
        )
    shape = (card.batch_size, card.channels, card.height, card.width)
    if card.input is not None and card.input != TensorRecord(name=INPUT, shape=shape):
        raise ContractError(
            f"engine takes {card.input}, its card promises {TensorRecord(name=INPUT, shape=shape)}",
            made_again(card),
        )


def _check_classes(card: EngineCard) -> None:
    if len(card.classes) != NUM_BONES:
        raise ContractError(
            f"engine has {len(card.classes)} classes, expected {NUM_BONES}", made_again(card)
        )
    for index, (found, expected) in enumerate(zip(card.classes, BONES, strict=True)):
        if found != expected:
            raise ContractError(
                f"engine has {found} as class {index}, expected {expected}", made_again(card)
            )
