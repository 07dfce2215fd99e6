"""The demo: the whole chain on this machine, against a real S3 server that it starts and stops.

Everything is in one folder. What is done is skipped, so the same command resumes where an
earlier one was ended, by whatever; nothing that it started outlives it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hbseg import rle
from hbseg.anatomy import BONES
from hbseg.config.placement import Placement
from hbseg.config.specs import InferSpec, PrepareSpec, TrainSpec
from hbseg.control.fetch import download_csv, download_page, fetch_report, fetch_submission
from hbseg.control.pipeline import Event, Pipeline
from hbseg.data.picture_folder import PictureFolder, Pictures, open_pictures
from hbseg.errors import ConflictError, DeniedError, InvalidInput, StepFailed
from hbseg.local.backend import LocalBackend
from hbseg.local.s3server import EmbeddedS3
from hbseg.runs.chain import dataset_version, make_task
from hbseg.runs.chain_specs import ChainSpecs
from hbseg.runs.run import Run
from hbseg.runs.steps import TRAINING_STAGES, Step
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from hbseg.submission import Image
from hbseg.submission.expected import Listed
from hbseg.submission.scanning import read_hands
from hbseg.system.cpu import usable_cores

if TYPE_CHECKING:
    from hbseg.data.dataset import Dataset
    from hbseg.data.shards import Sample

HANDS: Final = 200
TEST_HANDS: Final = 16
"""Synthetic hands where no number is given; the demo's epochs are meant for so many."""
SEED: Final = 0
RUN: Final = "demo"
BUCKET: Final = "hbseg"
MAX_PROCESSES: Final = 2

_OTHERS_AWS: Final = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
_AWS_FILES: Final = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")


@dataclass(frozen=True)
class DemoResult:
    """What a demo leaves."""

    submission: Path
    report: Path
    dice: float | None
    """Mean Dice of all bones and test hands at native size; none where their truth is unknown."""
    dice_by_bone: dict[str, float] = field(default_factory=dict)
    images: Path | None = None
    """CSV of the masks of the user's own pictures."""
    overlays: Path | None = None
    """Folder with those pictures and their masks drawn on them."""
    seconds: float = 0.0
    page: Path | None = None
    """Report of those pictures."""


@dataclass(frozen=True)
class Listener:
    """Where a demo tells what it does."""

    say: Callable[[str], None]
    """One line for a person."""
    on_event: Callable[[Event], None]
    """Steps of the pipeline."""
    progress: Callable[[str, int, int], None]
    """What is being done, how many are done, how many there are."""


def run_demo(
    folder: Path,
    specs: ChainSpecs,
    prepare_spec: PrepareSpec,
    listener: Listener,
    *,
    hands: int = HANDS,
    test_hands: int = TEST_HANDS,
    raw: Path | None = None,
    images: Path | None = None,
) -> DemoResult:
    """Run the chain in `folder` and return what it left there.

    Call it in the main thread: what it starts ends with the thread that calls it.

    Raises:
        ConflictError: another demo is at work in the folder.
        InvalidInput: `folder` and `images` overlap, or two pictures have one name.
        NotFoundError: there is no picture in `images`.
        HbsegError: a step failed, the raw set has errors, SeaweedFS is not installed.
    """
    began = time.monotonic()
    folder = Path(os.path.abspath(folder))
    images = None if images is None else Path(os.path.abspath(images))
    if images is not None:
        _check_apart(folder, images)
        PictureFolder(open_pictures(str(images)))  # here, not after minutes of training
    with _alone_in(folder):
        source = folder / "raw" if raw is None else Path(os.path.abspath(raw))
        if raw is None:
            _make_hands(source, hands, test_hands, listener)
        with EmbeddedS3(folder / "s3") as server, _environment(server.environment):
            listener.say(f"S3 server at {server.environment['AWS_ENDPOINT_URL']}")
            server.create_bucket(BUCKET)
            demo = _Demo(folder, source, specs, prepare_spec, listener)
            return demo.run(images, began)


def fitted(
    specs: ChainSpecs, prepare_spec: PrepareSpec, *, hands: int, raw: Path | None
) -> tuple[ChainSpecs, PrepareSpec]:
    """Return the demo's specs for a set of another size than `HANDS`.

    The number of steps stays about the same, and there are no more folds than persons.

    Raises:
        NotFoundError, InvalidInput: `raw` is no raw set, or has no test pictures.
    """
    persons = hands // 2
    if raw is not None:
        from hbseg.data.raw import scan

        found = scan(raw)
        train = [image for image in found if image.split == "train"]
        if len(train) == len(found):
            raise InvalidInput(
                f"no test pictures in {raw}, and the demo makes a submission of them",
                "expected test/DCM/<person>/<picture>.png beside train",
            )
        hands, persons = len(train), len({image.person for image in train})
    ratio = HANDS / max(hands, 1)
    specs = specs.replaced(
        {stage: _stretched(specs.get(stage, TrainSpec), ratio) for stage in TRAINING_STAGES}
    )
    folds = max(2, min(prepare_spec.folds, persons))
    return specs, prepare_spec.model_copy(update={"folds": folds})


def _stretched(spec: TrainSpec, ratio: float) -> TrainSpec:
    numbers = {
        name: max(1, round(getattr(spec.run, name) * ratio))
        for name in ("epochs", "validate_every")
    }
    return spec.model_copy(update={"run": spec.run.model_copy(update=numbers)})


class _Demo:
    """The chain, while the server runs."""

    def __init__(
        self,
        folder: Path,
        raw: Path,
        specs: ChainSpecs,
        prepare_spec: PrepareSpec,
        listener: Listener,
    ) -> None:
        self._folder, self._raw = folder, raw
        self._prepare_spec = prepare_spec
        self._listener = listener
        self._data = open_store(f"s3://{BUCKET}/data")
        self._run = Run(open_store(f"s3://{BUCKET}/runs"), RUN)
        self._backend = LocalBackend(folder / "state", dies_with_parent=True)
        self._specs = specs
        self._pipeline = Pipeline(
            self._backend,
            self._run,
            self._data,
            specs,
            placement=Placement(processes_per_node=min(MAX_PROCESSES, usable_cores())),
            on_event=listener.on_event,
            tell=listener.say,
        )

    def run(self, images: Path | None, began: float) -> DemoResult:
        self._prepare()
        try:
            self._pipeline.run()
            picture_csv = None if images is None else self._images(images)
        except KeyboardInterrupt:
            self._listener.say("stopping; the same command resumes from here")
            for name in self._backend.tasks(self._run):
                self._backend.cancel(self._run, name)
            raise
        except StepFailed as error:
            state = self._backend.folder(self._run)
            raise StepFailed(error.message, f"see the logs in {state}") from None
        submission, report = self._folder / "submission.csv", self._folder / "report.html"
        fetch_submission(self._run, self._data, submission)
        fetch_report(self._run, report)
        by_bone = self._score(submission)
        return DemoResult(
            submission=submission,
            report=report,
            dice=sum(by_bone.values()) / len(by_bone) if by_bone else None,
            dice_by_bone=by_bone,
            images=picture_csv,
            page=None if picture_csv is None else self._folder / "images.html",
            overlays=None if picture_csv is None else self._folder / "overlays",
            seconds=time.monotonic() - began,
        )

    def _prepare(self) -> None:
        from hbseg.data.prepare import prepare

        began = time.monotonic()
        prepared = prepare(
            self._raw,
            self._data,
            self._prepare_spec,
            workers=usable_cores(),
            progress=self._listener.progress,
        )
        what = "skipped: done and up to date" if prepared.unchanged else "done"
        self._listener.say(
            f"{'prepare':<24} {what} in {time.monotonic() - began:.0f} s  "
            f"(version {prepared.version})"
        )

    def _images(self, images: Path) -> Path:
        """Make masks, report and overlays of the user's own pictures; return the CSV's path."""
        pictures = open_pictures(str(images))
        spec = self._specs.get(Step.INFER, InferSpec).model_copy(
            update={"mode": "images", "images": pictures.url}
        )
        task = make_task(self._run, self._data, Step.INFER, spec)
        self._pipeline.do(task)
        target = self._folder / "images.csv"
        download_csv(task.folder, target)
        download_page(task.folder, self._folder / "images.html")
        self._draw(task.folder, pictures, target)
        return target

    def _draw(self, folder: Store, pictures: Pictures, csv: Path) -> None:
        from hbseg.report.drawing import draw_overlays

        total = len(json.loads(folder.get("pictures.json"))["pictures"])
        shown = PictureFolder(pictures)
        hands = read_hands(csv, shown.expected())
        for done, _ in enumerate(draw_overlays(hands, shown, self._folder / "overlays"), start=1):
            self._listener.progress("overlays", done, total)

    def _score(self, submission: Path) -> dict[str, float]:
        """Return the mean Dice of each bone over the test hands; empty without their truth."""
        from hbseg.data import annotation
        from hbseg.data.dataset import open_version

        dataset = open_version(self._data, dataset_version(self._run))
        truth = _truth(self._raw, dataset)
        if truth is None:
            return {}
        sums: dict[str, float] = defaultdict(float)
        expected = Listed(Image(s.path, s.height, s.width) for s, _ in truth.values())
        for hand in read_hands(submission, expected):
            sample, path = truth[hand.image.name]
            right = annotation.runs(
                annotation.read(path.read_bytes(), source=str(path)), sample.shape
            )
            for bone, *masks in zip(BONES, hand.runs, right, strict=True):
                sums[bone] += rle.dice(*masks) / len(truth)
        return dict(sums)


def _truth(raw: Path, dataset: Dataset) -> dict[str, tuple[Sample, Path]] | None:
    """Return sample and truth file of each test image by its name; none where one is unknown."""
    found: dict[str, tuple[Sample, Path]] = {}
    for sample in dataset.samples("test"):
        name = sample.path.rpartition("/")[2]
        folder = raw / "test_truth" / "outputs_json" / sample.person
        path = folder / f"{Path(name).stem}.json"
        if not path.is_file():
            return None
        found[name] = (sample, path)
    return found or None


def _make_hands(raw: Path, hands: int, test_hands: int, listener: Listener) -> None:
    from hbseg.data.synth import write_raw_set

    began = time.monotonic()
    write_raw_set(
        raw,
        hands=hands,
        test_hands=test_hands,
        seed=SEED,
        workers=usable_cores(),
        progress=lambda done, total: listener.progress("hands", done, total),
    )
    listener.say(
        f"{'synthetic hands':<24} {hands} + {test_hands} in {time.monotonic() - began:.0f} s"
    )


def _check_apart(folder: Path, images: Path) -> None:
    inner, outer = folder.resolve(), images.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise InvalidInput(
            f"the demo's folder {folder} and the pictures in {images} lie in one another, and "
            "what the demo writes would count as your pictures",
            "choose another --dir, or a folder for --images that holds your pictures alone",
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        raise DeniedError(
            f"folder {folder} cannot be written ({error.strerror})", "choose another --dir"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another demo is at work in {folder}", "choose another --dir or wait"
            ) from None
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Lead boto3, here and in the steps, to the embedded server and past any proxy."""
    before = dict(os.environ)
    for name in _OTHERS_AWS:
        os.environ.pop(name, None)
    os.environ.update(dict.fromkeys(_AWS_FILES, os.devnull))
    os.environ.update(values)
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


__all__ = ["HANDS", "TEST_HANDS", "DemoResult", "Listener", "fitted", "run_demo"]
