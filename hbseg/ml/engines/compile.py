"""From a checkpoint to an engine, and the proof that both agree on real pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from hbseg.anatomy import BONES
from hbseg.config.specs import CompileSpec, TrainSpec
from hbseg.data.dataset import Dataset
from hbseg.errors import ContractError, SpecError
from hbseg.ml.checkpoint import LoadedModel
from hbseg.ml.engines.card import Agreement, Engine, EngineCard, Images, Logits, Versions
from hbseg.ml.engines.onnx_export import export_onnx
from hbseg.ml.engines.opening import BACKENDS
from hbseg.ml.frame import Frame
from hbseg.rle import DICE_EPSILON
from hbseg.storage.markers import check_outputs, read_marker, sha256_of_file, verified
from hbseg.storage.store import Store
from hbseg.system.cpu import usable_threads

GATE_PICTURES = 4
"""Pictures on which an engine is compared with the network."""
TRAIN_SPEC = "spec.yaml"
"""Spec of a finished stage, in its folder."""
ONNX_MODEL = "model.onnx"


def compile_engine(
    spec: CompileSpec,
    loaded: LoadedModel,
    pictures: Sequence[NDArray[np.uint8]],
    work: Path,
    *,
    fold: int = 0,
) -> EngineCard:
    """Write the engine of a network to `work` and return its card; both agree on `pictures`.

    Args:
        spec: kind of engine, batch size and the largest difference that is accepted.
        loaded: network and card of a checkpoint.
        pictures: grey levels, uint8 [height, width], at least one, each of any size.
        work: local folder; the model file is `card.model` in it.
        fold: of the dataset, held out in the training.

    Raises:
        SpecError: this version cannot compile what is asked for.
        ContractError: engine and network differ by more than the spec accepts.
    """
    card = COMPILERS[spec.engine](spec, loaded, work, fold)
    engine = BACKENDS[card.backend](work / card.model, card, usable_threads())
    images_bhw = scaled(pictures, loaded.card.image_size)
    agreement = agreement_of(loaded.model, engine, images_bhw)
    check_agreement(agreement, accepted=spec.largest_difference)
    return card.model_copy(update={"agreement": agreement})


def held_out_fold(stage: Store) -> int:
    """Return the fold that a finished stage did not train on.

    Raises:
        NotFoundError: the stage is not done.
        ContractError: its spec is missing or damaged.
    """
    marker = read_marker(stage)
    check_outputs(stage, marker, [TRAIN_SPEC])
    source = f"{stage.url}/{TRAIN_SPEC}"
    data = verified(stage.get(TRAIN_SPEC), marker.outputs[TRAIN_SPEC], source=source)
    return TrainSpec.from_text(data, source=source).dataset.fold


def reference_pictures(dataset: Dataset, fold: int) -> list[NDArray[np.uint8]]:
    """Return up to `GATE_PICTURES` pictures of the held-out fold, evenly over its order."""
    samples = dataset.samples("validation", fold)
    chosen = samples[:: max(1, len(samples) // GATE_PICTURES)][:GATE_PICTURES]
    return [dataset.picture(sample) for sample in chosen]


def scaled(pictures: Sequence[NDArray[np.uint8]], size: int) -> Images:
    """Return pictures, uint8 [height, width], as the network sees them, uint8 [n, size, size]."""
    frames = [Frame.of(picture.shape[0], picture.shape[1], size) for picture in pictures]
    return np.stack([f.to_network(picture) for f, picture in zip(frames, pictures, strict=True)])


def agreement_of(model: nn.Module, engine: Engine, images_bhw: Images) -> Agreement:
    """Return how the engine compares with the network on images, uint8 [n, S, S]."""
    batch = engine.card.batch_size
    differences: list[Logits] = []
    dices: list[NDArray[np.float64]] = []
    for start in range(0, len(images_bhw), batch):
        images = images_bhw[start : start + batch]
        expected, found = eager_logits(model, images), engine.logits(images)
        differences.append(np.abs(found - expected).max(axis=(0, 2, 3)))
        dices.append(_dice_bc(found > 0, expected > 0))
    # A card holds finite numbers: a difference that is none becomes the largest float32.
    most = float(np.finfo(np.float32).max)
    largest_c = np.nan_to_num(np.stack(differences), nan=most, posinf=most).max(axis=0)
    bone = int(np.argmax(largest_c))
    return Agreement(
        pictures=len(images_bhw),
        largest_difference=float(largest_c[bone]),
        bone=BONES[bone],
        dice=float(np.concatenate(dices).mean()),
    )


def check_agreement(agreement: Agreement, *, accepted: float) -> None:
    """Refuse an engine whose logits differ by more than `accepted`.

    Raises:
        ContractError: names the bone and the figures.
    """
    if agreement.largest_difference > accepted:
        raise ContractError(
            f"engine and network differ by {agreement.largest_difference:.3g} in the logits of "
            f"{agreement.bone}, accepted is {accepted:g} (Dice of their masks: "
            f"{agreement.dice:.4f})",
            "accept more with --set largest_difference=X, or compile with precision=fp32",
        )


def eager_logits(model: nn.Module, images_bhw: Images) -> Logits:
    """Return the network's own logits, float32 [n, 29, h, w], of images uint8 [n, S, S]."""
    with torch.inference_mode():
        logits: Logits = model(torch.from_numpy(images_bhw)[:, None].float()).numpy()
    return logits


def _compile_onnx(spec: CompileSpec, loaded: LoadedModel, work: Path, fold: int) -> EngineCard:
    if spec.precision != "fp32":
        raise SpecError(f"precision {spec.precision}: onnx engines are fp32", "set precision=fp32")
    if spec.device is not None:
        raise SpecError(
            f"device {spec.device}: onnx engines run on any CPU", "leave the device out"
        )
    path = work / ONNX_MODEL
    size = loaded.card.image_size
    export_onnx(loaded.model, path, batch_size=spec.batch_size, size=size)
    return EngineCard(
        backend="onnx",
        batch_size=spec.batch_size,
        channels=1,
        height=size,
        width=size,
        precision=spec.precision,
        device="cpu",
        versions=Versions(
            torch=torch.__version__,
            onnx=onnx.__version__,
            onnxruntime=onnxruntime.__version__,
        ),
        checkpoint_sha256=loaded.weights_sha256,
        fold=fold,
        classes=loaded.card.classes,
        model=ONNX_MODEL,
        model_sha256=sha256_of_file(path),
    )


def _compile_tensorrt(spec: CompileSpec, loaded: LoadedModel, work: Path, fold: int) -> EngineCard:
    raise SpecError("engine tensorrt: this version compiles onnx engines only", "use --engine onnx")


COMPILERS: Mapping[str, Callable[[CompileSpec, LoadedModel, Path, int], EngineCard]] = {
    "onnx": _compile_onnx,
    "tensorrt": _compile_tensorrt,
}
"""Compiler of each kind of engine: spec, network, local folder and fold to the engine's card."""


def _dice_bc(first_bchw: NDArray[np.bool_], second_bchw: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Dice of two masks for each picture and bone, [B, C]."""
    shared = 2.0 * (first_bchw & second_bchw).sum(axis=(2, 3))
    total = first_bchw.sum(axis=(2, 3)) + second_bchw.sum(axis=(2, 3))
    dice: NDArray[np.float64] = (shared + DICE_EPSILON) / (total + DICE_EPSILON)
    return dice
