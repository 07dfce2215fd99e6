"""What the spec of an inference takes from storage at submit: other runs' engines, thresholds."""

from __future__ import annotations

from collections.abc import Sequence

from hbseg.config.specs import InferSpec
from hbseg.control.waiting import Tell, say_nothing
from hbseg.errors import ConflictError, ContractError, NotFoundError, UsageError
from hbseg.runs.chain import Chosen, find_engine
from hbseg.runs.results import EVALUATION, Evaluation
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.markers import read_marker, verified

VALIDATED = InferSpec(mode="valid")


def pinned_inference(
    spec: InferSpec,
    run: Run,
    others: Sequence[Run],
    *,
    validated: bool = False,
    tell: Tell = say_nothing,
) -> InferSpec:
    """Return a spec that names other runs' engines and the thresholds of the run's evaluation.

    So what is in storage now decides the spec's digest.

    Args:
        spec: how masks are made.
        run: the run.
        others: runs whose engines are averaged with the run's own.
        validated: whether thresholds are those of the run's evaluation.
        tell: gets a warning where an engine was trained on the pictures that judge it.

    Raises:
        UsageError: a run is named twice.
        NotFoundError: there is no such run.
        ConflictError: a run has no fitting engine, or no evaluation; the hint is the command that
            makes one.
    """
    for named in (run, *others):
        named.read()
    changes: dict[str, object] = {}
    if others:
        changes["members"] = _members(spec, run, others, tell)
    if validated:
        changes["thresholds"] = _thresholds(run)
    return InferSpec.from_mapping(spec.to_mapping() | changes, source="infer")


def _members(spec: InferSpec, run: Run, others: Sequence[Run], tell: Tell) -> list[str]:
    """Return the URLs of the engines of other runs."""
    names = [run.name, *(other.name for other in others)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"run {name} is averaged with itself", "name each run once")
    own = find_engine(run, spec.batch_size)
    urls = []
    for other in others:
        found = find_engine(other, spec.batch_size, kind=own.engine)
        _check_size(run, own, other, found)
        if spec.mode == "valid" and own.card.get("fold") != found.card.get("fold"):
            tell(
                f"warning: run {other.name} held out fold {found.card.get('fold')}, not "
                f"{own.card.get('fold')}: it was trained on the pictures that judge it"
            )
        urls.append(other.folder.folder(found.prefix).url)
    return urls


def _check_size(run: Run, own: Chosen, other: Run, found: Chosen) -> None:
    sizes = own.card.get("height"), found.card.get("height")
    if sizes[0] != sizes[1]:
        raise ConflictError(
            f"the engine of run {other.name} takes {sizes[1]} pixels a side, that of run "
            f"{run.name} {sizes[0]}",
            "average runs of one dataset.image_size",
        )


def _thresholds(run: Run) -> dict[str, float]:
    """Return each bone's threshold that the run's evaluation found."""
    folder = run.folder.folder(Step.INFER.folder_for(VALIDATED).name)
    source = f"{folder.url}/{EVALUATION}"
    hint = f"{Step.INFER.start_hint(run.name)} --mode valid"
    try:
        marker = read_marker(folder)
        data = folder.get(EVALUATION)
        sha256 = {**marker.outputs, **marker.records}[EVALUATION]
    except (NotFoundError, KeyError):
        raise ConflictError(f"run {run.name} has no evaluation", hint) from None
    try:
        evaluation = Evaluation.from_text(verified(data, sha256, source=source), source=source)
    except ContractError as error:
        raise ConflictError(error.message, hint) from None
    return evaluation.thresholds
