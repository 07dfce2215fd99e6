"""From a checkpoint to an engine, and the proof that both agree on real pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hbseg.anatomy import BONES
from hbseg.config.specs import CompileSpec
from hbseg.errors import ContractError
from hbseg.ml.checkpoint import LoadedModel
from hbseg.ml.engines.card import Agreement, Engine, EngineCard, Images, Logits
from hbseg.ml.engines.kinds import Compiled, Loading, kind_to_compile
from hbseg.ml.engines.reference import eager_logits, scaled, seen_at_once
from hbseg.rle import DICE_EPSILON
from hbseg.storage.markers import sha256_of_file
from hbseg.system.cpu import usable_threads

if TYPE_CHECKING:
    from hbseg.ml.checkpoint import LoadedModel  # it imports all encoders, which takes seconds


def compile_engine(
    spec: CompileSpec,
    loaded: LoadedModel,
    pictures: Sequence[NDArray[np.uint8]],
    work: Path,
    *,
    fold: int = 0,
    loading: Loading = nullcontext,
) -> EngineCard:
    """Write the engine of a network to `work` and return its card; both agree on `pictures`.

    Args:
        spec: kind of engine, batch size and the largest difference that is accepted.
        loaded: network and card of a checkpoint.
        pictures: grey levels, uint8 [height, width], at least one, each of any size.
        work: local folder; the model file is `card.model` in it.
        fold: of the dataset, held out in the training.
        loading: context in which the kind's libraries are imported.

    Raises:
        SpecError: this version cannot compile what is asked for.
        ContractError: engine and network differ by more than the spec accepts.
    """
    kind = kind_to_compile(spec.engine)
    with loading():
        compiler, opener = kind.load_compiler(), kind.load_opener()
    path = work / kind.model_file
    card = _card(spec, loaded, path, compiler(spec, loaded, path), fold)
    engine = opener(path, card, usable_threads())
    pictures = seen_at_once(pictures, loaded.card.image_size, loaded.card.view)
    images_bhw = scaled(pictures, loaded.card.image_size)
    agreement = agreement_of(loaded.model, engine, images_bhw)
    check_agreement(agreement, accepted=spec.largest_difference)
    return card.model_copy(update={"agreement": agreement})


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


def _card(
    spec: CompileSpec, loaded: LoadedModel, path: Path, compiled: Compiled, fold: int
) -> EngineCard:
    return EngineCard(
        backend=spec.engine,
        batch_size=spec.batch_size,
        channels=1,
        height=loaded.card.image_size,
        width=loaded.card.image_size,
        view=loaded.card.view,
        precision=spec.precision,
        device=compiled.device,
        compute_capability=compiled.compute_capability,
        flavour=compiled.flavour,
        optimization_level=compiled.optimization_level,
        input=compiled.input,
        output=compiled.output,
        versions=compiled.versions,
        checkpoint_sha256=loaded.weights_sha256,
        fold=fold,
        classes=loaded.card.classes,
        model=path.name,
        model_sha256=sha256_of_file(path),
    )


def _dice_bc(first_bchw: NDArray[np.bool_], second_bchw: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Dice of two masks for each picture and bone, [B, C]."""
    shared = 2.0 * (first_bchw & second_bchw).sum(axis=(2, 3))
    total = first_bchw.sum(axis=(2, 3)) + second_bchw.sum(axis=(2, 3))
    dice: NDArray[np.float64] = (shared + DICE_EPSILON) / (total + DICE_EPSILON)
    return dice
