"""Gathers what a run's steps left in storage and makes the report of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg import rle, submission
from hbseg.anatomy import BONES
from hbseg.data.dataset import Dataset, open_version
from hbseg.data.shards import Sample
from hbseg.errors import ContractError, NotFoundError
from hbseg.report import sources
from hbseg.report.contents import Contents, ReportedHand, Stage, StepVersion
from hbseg.report.overlay import draw_overlay
from hbseg.report.page import render_page
from hbseg.report.sections import report_view
from hbseg.runs.results import EFFICIENCY, EVALUATION_TABLE, Efficiency
from hbseg.runs.steps import SHORT, Step
from hbseg.storage.markers import Marker, read_marker, sha256_of_file, verified
from hbseg.storage.store import Store

STAGES: Final[dict[str, Literal[1, 2]]] = {
    step.value: step.row.stage for step in Step if step.row.stage
}
INPUTS: Final = tuple(item.name for item in Step.REPORT.row.inputs)
"""Names of the inputs; a report takes those that are given, and its page says what is missing."""

METRICS, SPEC = "metrics.jsonl", "spec.yaml"
SUBMISSION: Final = "submission.csv"

PICTURE_BYTES: Final = 10_000_000
"""All JPEGs together; as base64 13.4 MB, of the 15 that a report may have."""
PICTURE_STEPS: Final = ((900, 88), (900, 78), (700, 78), (500, 75), (360, 70))
"""Longest side in pixels and JPEG quality, tried until a picture keeps to its share."""


@dataclass
class Submitted:
    """The rows of a submission that a report needs."""

    num_images: int = 0
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Image name: code of each bone."""


def build_report(
    run: str, inputs: Mapping[str, Store], data: Store, work: Path, *, pictures: int = 6
) -> bytes:
    """Return the report of a run as one HTML file of at most 15 MB.

    `inputs` are folders with markers by the names in `INPUTS`, `data` is the folder of the
    datasets, `work` a local folder for the submission while it is read, `pictures` the number of
    test hands that are drawn; with 0 nothing of any picture gets into the file. Equal inputs give
    equal bytes.

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
    folders = {name: _Folder(inputs[name], marker) for name, marker in markers.items()}
    version = _last_part(inputs["dataset"]) if "dataset" in inputs else ""
    dataset = open_version(data, version) if version and pictures else None
    hands, num_images = _hands(dataset, folders.get("infer"), work, pictures)
    return Contents(
        run=run,
        stages=tuple(
            _stage(number, folders[name]) for name, number in STAGES.items() if name in folders
        ),
        validation=_validation(folders.get("valid")),
        hands=hands,
        num_test_images=num_images,
        efficiency=_efficiency(folders.get("efficiency")),
        versions=tuple(_version(name, marker) for name, marker in markers.items()),
        finished=max((marker.finished for marker in markers.values()), default=""),
        dataset=version,
    )


def spread_evenly(samples: list[Sample], wanted: int) -> list[Sample]:
    """Return at most `wanted` of `samples`, the first and the last among them, in order."""
    places = np.linspace(0, len(samples) - 1, min(wanted, len(samples))).round().astype(int)
    return [samples[place] for place in places]


@dataclass(frozen=True)
class _Folder:
    """A finished step's folder."""

    store: Store
    marker: Marker

    def read(self, key: str) -> bytes | None:
        """Return a file, checked where the marker lists it; None: neither listed nor there."""
        expected = self.expected(key)
        try:
            found = self.store.get(key)
        except NotFoundError:
            if expected is None:
                return None
            raise
        source = f"{self.store.url}/{key}"
        return verified(found, expected, source=source) if expected else found

    def expected(self, key: str) -> str | None:
        """Return the sha256 that the marker lists."""
        return {**self.marker.records, **self.marker.outputs}.get(key)


def _stage(number: Literal[1, 2], folder: _Folder) -> Stage:
    spec = folder.read(SPEC) or b""
    epochs = sources.epochs(folder.read(METRICS) or b"")
    init_from = sources.init_from(spec, source=f"{folder.store.url}/{SPEC}")
    return Stage(number, epochs, spec.decode("utf-8", "replace"), init_from)


def _validation(folder: _Folder | None) -> dict[tuple[str, str], float]:
    text = folder.read(EVALUATION_TABLE) if folder else None
    if folder is None or text is None:
        return {}
    return sources.validation(text, source=f"{folder.store.url}/{EVALUATION_TABLE}")


def _efficiency(folder: _Folder | None) -> Efficiency | None:
    text = folder.read(EFFICIENCY) if folder else None
    if folder is None or text is None:
        return None
    return sources.efficiency(text, source=f"{folder.store.url}/{EFFICIENCY}")


def _hands(
    dataset: Dataset | None, folder: _Folder | None, work: Path, pictures: int
) -> tuple[tuple[ReportedHand, ...], int | None]:
    """Return test hands with their masks, and how many images the submission has."""
    if folder is None:
        return (), None
    chosen = spread_evenly(dataset.samples("test"), pictures) if dataset else []
    submitted = _submitted(folder, {_name(sample) for sample in chosen}, work)
    share = PICTURE_BYTES // max(len(chosen), 1)
    hands = [
        _hand(dataset, sample, submitted.codes[_name(sample)], share)
        for sample in chosen
        if dataset and _name(sample) in submitted.codes
    ]
    return tuple(hands), submitted.num_images


def _submitted(folder: _Folder, names: set[str], work: Path) -> Submitted:
    path = work / SUBMISSION
    folder.store.download(SUBMISSION, path)
    try:
        expected = folder.expected(SUBMISSION)
        if expected is not None and sha256_of_file(path) != expected:
            raise ContractError(
                f"{folder.store.url}/{SUBMISSION} is damaged", "run the step infer again"
            )
        return _read_submission(path, names)
    finally:
        path.unlink(missing_ok=True)


def _read_submission(path: Path, names: set[str]) -> Submitted:
    found, seen = Submitted(), ""
    for name, bone, code in submission.read(path):
        found.num_images += name != seen
        seen = name
        if name in names:
            found.codes.setdefault(name, {})[bone] = code
    return found


def _hand(dataset: Dataset, sample: Sample, codes: Mapping[str, str], limit: int) -> ReportedHand:
    gray = dataset.picture(sample)
    try:
        runs = [rle.from_text(codes.get(bone, ""), gray.size) for bone in BONES]
    except ValueError as error:
        raise ContractError(
            f"{SUBMISSION}: {_name(sample)}: {error}", "run the step infer again"
        ) from None
    jpeg, (height, width) = as_jpeg(draw_overlay(gray, runs), limit)
    missing = tuple(bone for bone, found in zip(BONES, runs, strict=True) if not len(found))
    return ReportedHand(_name(sample), jpeg, width, height, missing)


def as_jpeg(picture: NDArray[np.uint8], limit: int) -> tuple[bytes, tuple[int, int]]:
    """Return a JPEG of `picture`, uint8 [H, W, 3] RGB, and its height and width in pixels.

    It is as large as `limit` bytes allow; the smallest size is taken whatever it has.
    """
    for side, quality in PICTURE_STEPS:
        scale = min(1.0, side / max(picture.shape[:2]))
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        written, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)
        if not written:
            raise RuntimeError("OpenCV could not encode a picture")
        if jpeg.size <= limit:
            break
    return jpeg.tobytes(), (small.shape[0], small.shape[1])


def _version(name: str, marker: Marker) -> StepVersion:
    step = name if marker.step in (name, Step.PREPARE) else f"{name} ({marker.step})"
    return StepVersion(
        step, marker.finished, marker.code_version, marker.spec_hash[:SHORT], marker.digest[:SHORT]
    )


def _name(sample: Sample) -> str:
    return sample.path.rpartition("/")[2]


def _last_part(folder: Store) -> str:
    return folder.url.rpartition("/")[2]
