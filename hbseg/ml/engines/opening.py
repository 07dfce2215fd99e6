"""Opening an engine: from its folder in storage to a network that runs, or one clear refusal.

A folder `engine/<key>/` holds the model file, `engine.json` and the marker. An engine is loaded
only after its files' sha256 and each of its promises were checked.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from hbseg.errors import BucketMissing, ContractError, NotFoundError, SpecError
from hbseg.ml.engines.card import CARD, Engine, EngineCard, check_card, compile_again, made_again
from hbseg.ml.engines.kinds import Loading, kind_of
from hbseg.runs.steps import SHORT, Step
from hbseg.storage.markers import Marker, check_outputs, read_marker, sha256_of_file, verified
from hbseg.storage.store import Store
from hbseg.system.cpu import usable_threads


def open_engine(
    folder: Store,
    work: Path,
    *,
    batch_size: int,
    checkpoint_sha256: str | None = None,
    kind: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    size: int | None = None,
    threads: int = 0,
    loading: Loading = nullcontext,
) -> Engine:
    """Return the engine in `folder`, after every promise was checked.

    Args:
        folder: `engine/<key>` of a run.
        work: local folder for the model file.
        batch_size: images of one call that are asked for.
        checkpoint_sha256: weights that it must come from; none: any.
        kind: kind of engine that is asked for; none: any that this version runs.
        device: GPU model, or `cpu`, that it must be for, with its `kind`; none: any.
        precision: of the arithmetic; none: any.
        size: side of the input, in pixels; none: any.
        threads: of the CPU; 0 takes `usable_threads()`.
        loading: context in which the kind's libraries are imported.

    Raises:
        NotFoundError: there is no engine.
        ContractError: damaged, or not what is asked for.
    """
    marker = _marker(folder)
    card = _card(folder, marker)
    engine_kind = kind_of(card)
    check_card(
        card,
        batch_size=batch_size,
        checkpoint_sha256=checkpoint_sha256,
        kind=kind,
        device=device,
        precision=precision,
        size=size,
    )
    check_outputs(folder, marker, [card.model])
    path = _model_file(folder, work, card, marker.outputs[card.model])
    with loading():
        opener = engine_kind.load_opener()
    return opener(path, card, threads or usable_threads())


def _marker(folder: Store) -> Marker:
    try:
        marker = read_marker(folder)
    except BucketMissing:
        raise
    except NotFoundError:
        raise NotFoundError(f"no finished engine in {folder.url}", compile_again()) from None
    if marker.step != Step.COMPILE:
        raise ContractError(
            f"{folder.url} was written by step {marker.step}, expected {Step.COMPILE}",
            compile_again(),
        )
    return marker


def _card(folder: Store, marker: Marker) -> EngineCard:
    source = f"{folder.url}/{CARD}"
    if CARD not in marker.records:
        raise ContractError(f"the marker in {folder.url} lists no {CARD}", compile_again("--again"))
    try:
        data = verified(folder.get(CARD), marker.records[CARD], source=source)
        return EngineCard.from_text(data, source=source)
    except NotFoundError:
        raise ContractError(f"{source} is missing", compile_again("--again")) from None
    except (ContractError, SpecError) as error:
        raise ContractError(error.message, compile_again("--again")) from None


def _model_file(folder: Store, work: Path, card: EngineCard, listed: str) -> Path:
    """Return a local copy of the model whose sha256 is the marker's and the card's."""
    if listed != card.model_sha256:
        raise ContractError(
            f"the marker lists {card.model} {listed[:SHORT]}, {CARD} {card.model_sha256[:SHORT]}",
            made_again(card),
        )
    path = work / card.model
    if path.is_file() and sha256_of_file(path) == listed:
        return path
    try:
        folder.download(card.model, path)
    except NotFoundError:
        raise ContractError(f"{folder.url}/{card.model} is missing", made_again(card)) from None
    found = sha256_of_file(path)
    if found != listed:
        path.unlink()
        raise ContractError(
            f"{folder.url}/{card.model} is damaged: sha256 is {found[:SHORT]}, "
            f"its marker says {listed[:SHORT]}",
            made_again(card),
        )
    return path
