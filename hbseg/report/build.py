"""Gathers what a run's steps left in storage and makes the report of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from hbseg.data.dataset import open_version
from hbseg.report import sources
from hbseg.report.contents import Contents, Stage, StepVersion
from hbseg.report.folders import StepFolder
from hbseg.report.gallery import Gallery, Hands, Validation
from hbseg.report.hands import fitting_in_turn, share_of_page
from hbseg.report.page import render_page
from hbseg.report.sections import report_view
from hbseg.runs.results import (
    EFFICIENCY,
    EVALUATION,
    EVALUATION_TABLE,
    FLAGS,
    Efficiency,
    Evaluation,
    Flags,
)
from hbseg.runs.steps import SHORT, Step
from hbseg.storage.markers import Marker, read_marker
from hbseg.storage.store import Store

STAGES: Final[dict[str, Literal[1, 2]]] = {
    step.value: step.row.stage for step in Step if step.row.stage
}
INPUTS: Final = tuple(item.name for item in Step.REPORT.row.inputs)
"""Names of the inputs; a report takes those that are given, and its page says what is missing."""

METRICS, SPEC = "metrics.jsonl", "spec.yaml"


def build_report(
    run: str, inputs: Mapping[str, Store], data: Store, work: Path, *, pictures: int = 6
) -> bytes:
    """Return the report of a run as one HTML file of at most 15 MB.

    `inputs` are folders with markers by the names in `INPUTS`, `data` is the folder of the
    datasets, `work` a local folder for a submission while it is read. `pictures` is the number of
    validation hands (half of them the worst, half the best) and of test hands that are drawn;
    with 0 no image is drawn or named. Where not all fit, the last of each kind are left out, and
    the page says how many. Equal inputs give equal bytes.

    Raises:
        NotFoundError: an input has no marker, or lacks a file that its marker lists.
        ContractError: a file is not the one that its marker lists, or cannot be read.
    """
    return render(gather(run, inputs, data, work, pictures=pictures))


def render(contents: Contents) -> bytes:
    """Return a report, an HTML5 file in UTF-8; equal contents give equal bytes."""
    return render_page("report.html.j2", report=report_view(contents))


def gather(
    run: str, inputs: Mapping[str, Store], data: Store, work: Path, *, pictures: int
) -> Contents:
    """Return what the report shows; arguments and errors as `build_report`."""
    markers = {name: read_marker(inputs[name]) for name in INPUTS if name in inputs}
    folders = {name: StepFolder(inputs[name], marker) for name, marker in markers.items()}
    version = _last_part(inputs["dataset"]) if "dataset" in inputs else ""
    dataset = open_version(data, version) if version and pictures else None
    gallery = Gallery(dataset, work, share_of_page(2 * pictures))
    valid, infer = folders.get("valid"), folders.get("infer")
    validation = _validation(valid)
    tested, num_images = gallery.tested(infer, pictures) if infer else ((), None)
    drawn = (*_extremes(gallery, valid, validation, pictures), tested)
    worst, best, hands = fitting_in_turn(*drawn)
    return Contents(
        run=run,
        stages=tuple(
            _stage(number, folders[name]) for name, number in STAGES.items() if name in folders
        ),
        validation=validation,
        evaluation=valid.document(EVALUATION, Evaluation) if valid else None,
        worst=worst,
        best=best,
        hands=hands,
        num_left_out=sum(map(len, drawn)) - len(worst) - len(best) - len(hands),
        num_test_images=num_images,
        flags=infer.document(FLAGS, Flags) if infer else None,
        shows_names=pictures > 0,
        efficiency=_efficiency(folders.get("efficiency")),
        versions=tuple(_version(name, marker) for name, marker in markers.items()),
        finished=max((marker.finished for marker in markers.values()), default=""),
        dataset=version,
    )


def _stage(number: Literal[1, 2], folder: StepFolder) -> Stage:
    spec = folder.read(SPEC) or b""
    epochs = sources.epochs(folder.read(METRICS) or b"")
    init_from = sources.init_from(spec, source=folder.place(SPEC))
    return Stage(number, epochs, spec.decode("utf-8", "replace"), init_from)


def _validation(folder: StepFolder | None) -> Validation:
    text = folder.read(EVALUATION_TABLE) if folder else None
    if folder is None or text is None:
        return {}
    return sources.validation(text, source=folder.place(EVALUATION_TABLE))


def _extremes(
    gallery: Gallery, folder: StepFolder | None, validation: Validation, pictures: int
) -> tuple[Hands, Hands]:
    if folder is None:
        return (), ()
    return gallery.extremes(folder, validation, pictures)


def _efficiency(folder: StepFolder | None) -> Efficiency | None:
    text = folder.read(EFFICIENCY) if folder else None
    if folder is None or text is None:
        return None
    return sources.efficiency(text, source=folder.place(EFFICIENCY))


def _version(name: str, marker: Marker) -> StepVersion:
    step = name if marker.step in (name, Step.PREPARE) else f"{name} ({marker.step})"
    return StepVersion(
        step, marker.finished, marker.code_version, marker.spec_hash[:SHORT], marker.digest[:SHORT]
    )


def _last_part(folder: Store) -> str:
    return folder.url.rpartition("/")[2]
