"""What the spec of an inference takes from storage at submit: other runs' engines, thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hbseg.config.specs import InferSpec
from hbseg.control.waiting import Tell, say_nothing
from hbseg.errors import ConflictError, ContractError, NotFoundError, UsageError
from hbseg.runs.chain import Chosen, find_engine
from hbseg.runs.results import EVALUATION, Evaluation
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.markers import read_marker, verified

VALIDATED = InferSpec(mode="valid")
WHOLE = "whole"
"""View of an engine whose card names none."""


def pinned_inference(
    spec: InferSpec,
    run: Run,
    others: Sequence[Run],
    *,
    engine: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    validated: bool = False,
    tell: Tell = say_nothing,
) -> InferSpec:
    """Return a spec that names other runs' engines and the thresholds of the run's evaluation.

    So what is in storage now decides the spec's digest.

    Args:
        spec: how masks are made.
        run: the run.
        others: runs whose engines are averaged with the run's own.
        engine: kind of the run's engine; none: the latest of any kind.
        device: GPU model that it is for; none: any.
        precision: of its arithmetic; none: any.
        validated: whether thresholds are those of the run's evaluation.
        tell: gets a warning where an engine was trained on the pictures that judge it.

    Raises:
        UsageError: a run is named twice.
        NotFoundError: there is no such run.
        ConflictError: a run has no fitting engine, or no evaluation of its engine; the hint is the
            command that makes one.
    """
    _check_once([run.name, *(other.name for other in others)])
    for named in (run, *others):
        named.read()
    changes: dict[str, object] = {}
    chosen = partial(
        find_engine, run, spec.batch_size, kind=engine, device=device, precision=precision
    )
    if others:
        changes["members"] = _members(spec, run, chosen(), others, tell)
    if validated:
        changes["thresholds"] = _thresholds(run, chosen)
    return InferSpec.from_mapping(spec.to_mapping() | changes, source="infer")


def _members(
    spec: InferSpec, run: Run, own: Chosen, others: Sequence[Run], tell: Tell
) -> list[str]:
    """Return the URLs of the engines of other runs."""
    urls = []
    for other in others:
        device = own.card.get("device")
        found = find_engine(other, spec.batch_size, kind=own.engine, device=device)
        _check_alike(run, own, other, found)
        if spec.mode == "valid":
            _tell_leak(run, own, other, found, tell)
        urls.append(other.folder.folder(found.prefix).url)
    return urls


def _check_once(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"run {name} is averaged with itself", "name each run once")


def _check_alike(run: Run, own: Chosen, other: Run, found: Chosen) -> None:
    """Refuse an engine whose logits cannot be averaged with the run's own."""
    sizes = own.card.get("height"), found.card.get("height")
    if sizes[0] != sizes[1]:
        raise ConflictError(
            f"the engine of run {other.name} takes {sizes[1]} pixels a side, that of run "
            f"{run.name} {sizes[0]}",
            "average runs of one dataset.image_size",
        )
    views = own.card.get("view", WHOLE), found.card.get("view", WHOLE)
    if views[0] != views[1]:
        raise ConflictError(
            f"the engine of run {other.name} has view {views[1]}, that of run {run.name} "
            f"{views[0]}",
            "average runs of one dataset.view",
        )
    if own.card.get("classes") != found.card.get("classes"):
        raise ConflictError(
            f"the engine of run {other.name} has other classes than that of run {run.name}",
            f"leave it out, or train {other.name} with this version of hbseg",
        )


def _tell_leak(run: Run, own: Chosen, other: Run, found: Chosen, tell: Tell) -> None:
    """Warn of an engine that was, or may have been, trained on the pictures that judge it."""
    folds = own.card.get("fold"), found.card.get("fold")
    if folds[0] != folds[1]:
        tell(
            f"warning: run {other.name} held out fold {folds[1]}, not {folds[0]}: it was trained "
            "on the pictures that judge it"
        )
    elif _inputs(run, own).get("dataset") != _inputs(other, found).get("dataset"):
        tell(
            f"warning: run {other.name} was trained on another dataset version than {run.name}: it "
            "may have seen the pictures that judge it"
        )


def _inputs(run: Run, engine: Chosen) -> Mapping[str, str]:
    return read_marker(run.folder.folder(engine.prefix)).inputs


def _thresholds(run: Run, chosen: Callable[[], Chosen]) -> dict[str, float]:
    """Return each bone's threshold that the evaluation of the run's engine found."""
    folder = run.folder.folder(Step.INFER.folder_for(VALIDATED).name)
    source = f"{folder.url}/{EVALUATION}"
    hint = f"{Step.INFER.start_hint(run.name)} --mode valid"
    try:
        marker = read_marker(folder)
        data = folder.get(EVALUATION)
        sha256 = {**marker.outputs, **marker.records}[EVALUATION]
    except (NotFoundError, KeyError):
        raise ConflictError(f"run {run.name} has no evaluation", hint) from None
    own = chosen()
    if marker.inputs.get("engine") != read_marker(run.folder.folder(own.prefix)).digest:
        raise ConflictError(
            f"the evaluation of run {run.name} is of another engine than {own.prefix}", hint
        )
    try:
        evaluation = Evaluation.from_text(verified(data, sha256, source=source), source=source)
    except ContractError as error:
        raise ConflictError(error.message, hint) from None
    return evaluation.thresholds
