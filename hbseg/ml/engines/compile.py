"""From a checkpoint to an engine, and the proof that both agree on real pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hbseg.config.specs import CompileSpec
from hbseg.ml.engines.card import EngineCard
from hbseg.ml.engines.gate import agreement_of, check_agreement
from hbseg.ml.engines.kinds import Compiled, Loading, kind_to_compile
from hbseg.ml.engines.reference import seen_at_once
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
        spec: kind of engine, batch size, precision, and what it may differ by (`engines.gate`).
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
    agreement = agreement_of(loaded.model, engine, pictures)
    check_agreement(agreement, spec)
    return card.model_copy(update={"agreement": agreement})


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
