"""The infer step: pictures of a dataset or of any folder to a submission, in parts.

The pictures are cut, in path order, into parts of a few batches each. A part is written whole:
first its CSV rows, then its record with their sha256. A later attempt takes over every part whose
record fits, so a step that was killed resumes where it stopped and ends with the same bytes. Parts
of another spec or other inputs are removed at the end.

Several nodes share the parts out: node k of n makes every n-th part from the k-th on, and the one
that finds all parts there merges them. Two that find them at the same moment write the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from hbseg import submission
from hbseg.anatomy import NUM_BONES
from hbseg.config.specs import InferSpec
from hbseg.documents import Document, canonical_digest
from hbseg.errors import ContractError, InvalidInput, NotFoundError
from hbseg.ml.engines.card import Engine
from hbseg.ml.evaluation import HEADER, JudgedImage, Tally, TrueHand, Truth, judge
from hbseg.ml.flags import flagged_image, in_order
from hbseg.ml.predict import Prediction, Source, Unreadable, predict
from hbseg.ml.sources import say
from hbseg.ml.thresholds import LEVELS, dice_at_levels
from hbseg.runs.progress import Heartbeat
from hbseg.runs.results import (
    EVALUATION,
    EVALUATION_TABLE,
    FLAGS,
    PICTURES,
    FlaggedImage,
    Flags,
    PictureRecord,
    Pictures,
    UnreadableRecord,
)
from hbseg.runs.steps import SHORT
from hbseg.storage.markers import sha256_of, sha256_of_file
from hbseg.storage.store import Store

SUBMISSION = "submission.csv"
PART_IMAGES = 32
"""Images of a part at least; a part holds whole batches."""


class Part(Document):
    """Record of a part: written after its CSV, so that its presence means that both are whole."""

    kind: Literal["Part"] = "Part"
    sources: str
    """Digest of the paths and tags that the part was made from."""
    csv_sha256: str
    pictures: tuple[PictureRecord, ...]
    unreadable: tuple[UnreadableRecord, ...]
    judged: tuple[JudgedImage, ...] = ()
    """The figures of each picture, where the truth is known."""
    dice_sums: tuple[tuple[float, ...], ...] = ()
    """Of each bone, the sum of the pictures' Dice at each level of `hbseg.ml.thresholds`."""
    flagged: tuple[FlaggedImage, ...] = ()
    """Pictures that a human looks at first."""


@dataclass(frozen=True)
class Share:
    """Which parts a node makes: number `index`, and every `count`-th after it."""

    index: int = 0
    count: int = 1

    def has(self, number: int) -> bool:
        """Return whether a part is this node's."""
        return number % self.count == self.index


@dataclass(frozen=True)
class Inferred:
    """Keys that the step wrote, with their sha256, and its figures."""

    outputs: dict[str, str]
    metrics: dict[str, float]


class InferStep:
    """One execution: an engine, the pictures, and where the results go."""

    def __init__(
        self,
        spec: InferSpec,
        engine: Engine,
        folder: Store,
        work: Path,
        *,
        identity: str,
        truth: Truth | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._heartbeat = heartbeat or Heartbeat()
        self._spec = spec
        self._engine = engine
        self._folder = folder
        self._work = work
        self._truth = truth
        self._identity = identity[:SHORT]
        self._parts = folder.folder(f"parts/{self._identity}")
        self._computed = 0
        self._seconds = 0.0

    def run(self, sources: Sequence[Source], share: Share = Share()) -> Inferred | None:
        """Write the masks of all pictures; only missing parts are computed.

        Returns none where other nodes have parts to make yet: the last of them merges.

        Raises:
            InvalidInput: two pictures share a name, a dataset's image cannot be read, or none of
                a folder's pictures can.
            ContractError: a part in storage does not make a valid submission.
        """
        sources = sorted(sources, key=lambda source: source.path)
        submission.by_name(source.path for source in sources)
        if share.count > 1 and not self._make_share(sources, share):
            return None
        merged, table = self._work / SUBMISSION, self._work / EVALUATION_TABLE
        try:
            found = self._merge(sources, merged, table)
            self._check(merged, found)
            self._folder.upload(SUBMISSION, merged)
            outputs = {SUBMISSION: sha256_of_file(merged), **self._write_results(found, table)}
        finally:
            merged.unlink(missing_ok=True)
            table.unlink(missing_ok=True)
        self._clear_foreign()
        return Inferred(outputs, self._metrics(found))

    def _merge(self, sources: Sequence[Source], merged: Path, table: Path) -> _Found:
        self._heartbeat.beat(0, len(sources), "images")
        with merged.open("wb") as file, table.open("w", encoding="utf-8") as lines:
            file.write(submission.header().encode())
            found, done = _Found(lines), 0
            for number, chunk in enumerate(_chunks(sources, self._engine.card.batch_size)):
                part, rows = self._stored(number, chunk) or self._compute(number, chunk)
                file.write(rows)
                found.add(part)
                done += len(chunk)
                self._heartbeat.beat(done, len(sources), "images")
        return found

    def _make_share(self, sources: Sequence[Source], share: Share) -> bool:
        """Make this node's parts; return whether all parts are there then."""
        chunks = list(enumerate(_chunks(sources, self._engine.card.batch_size)))
        mine = [(number, chunk) for number, chunk in chunks if share.has(number)]
        images, done = sum(len(chunk) for _, chunk in mine), 0
        for number, chunk in mine:
            self._heartbeat.beat(done, images, "images")
            if self._stored(number, chunk) is None:
                self._compute(number, chunk)
            done += len(chunk)
        there = {entry.key for entry in self._parts.list()}
        missing = sum(f"{number:05d}.json" not in there for number, _ in chunks)
        if missing:
            say(f"{len(mine)} parts made; {missing} of {len(chunks)} are left to other nodes")
        return not missing

    def _stored(self, number: int, sources: Sequence[Source]) -> tuple[Part, bytes] | None:
        """Return a part that an earlier attempt left, if it is whole and of these very pictures."""
        try:
            data = self._parts.get(f"{number:05d}.json")
            part = Part.from_text(data, source=f"{self._parts.url}/{number:05d}.json")
            rows = self._parts.get(f"{number:05d}.csv")
        except (NotFoundError, InvalidInput):
            return None
        fits = part.sources == _digest(sources) and part.csv_sha256 == sha256_of(rows)
        return (part, rows) if fits else None

    def _compute(self, number: int, sources: Sequence[Source]) -> tuple[Part, bytes]:
        start = time.perf_counter()
        made = _Made(self._truth)
        for item in self._predictions(sources):
            self._heartbeat.touch()
            if isinstance(item, Unreadable):
                made.unreadable.append(self._left_out(item))
            else:
                made.add(item)
        data = "".join(made.rows).encode()
        part = made.part(_digest(sources), sha256_of(data))
        self._parts.put(f"{number:05d}.csv", data)
        self._parts.put(f"{number:05d}.json", part.to_json())
        self._count(number, len(part.pictures), time.perf_counter() - start)
        return part, data

    def _predictions(self, sources: Sequence[Source]) -> Iterator[Prediction | Unreadable]:
        return predict(
            self._engine,
            sources,
            threshold=self._spec.bone_thresholds,
            one_piece=self._spec.one_piece,
            keep_logits=self._truth is not None,
        )

    def _left_out(self, item: Unreadable) -> UnreadableRecord:
        if self._spec.mode != "images":
            raise item.error
        say(f"left out {item.path}: {item.error}")
        return UnreadableRecord(path=item.path, problem=str(item.error))

    def _count(self, number: int, images: int, seconds: float) -> None:
        self._computed += images
        self._seconds += seconds
        say(f"part {number + 1}: {images} images in {seconds:.1f} s")

    def _check(self, merged: Path, found: _Found) -> None:
        images = [_image(picture) for picture in found.pictures]
        if not images:
            raise InvalidInput(
                f"none of the {len(found.unreadable)} pictures in {self._spec.images} can be read",
                f"the first: {found.unreadable[0].problem}",
            )
        problems = submission.validate(merged, images)
        if problems:
            raise ContractError(
                f"the parts in {self._parts.url} make no valid submission: {problems[0]}",
                "delete them and run the step again",
            )

    def _write_results(self, found: _Found, table: Path) -> dict[str, str]:
        documents: dict[str, Document] = {FLAGS: found.flags()}
        outputs = {}
        if self._truth is not None:
            self._folder.upload(EVALUATION_TABLE, table)
            outputs[EVALUATION_TABLE] = sha256_of_file(table)
            documents[EVALUATION] = found.tally.evaluation(found.dice_sums)
        if self._spec.images is not None:
            documents[PICTURES] = found.of_folder(self._spec.images)
        for key, document in documents.items():
            data = document.to_json()
            self._folder.put(key, data)
            outputs[key] = sha256_of(data)
        return outputs

    def _clear_foreign(self) -> None:
        for identity in list(self._folder.list_folders("parts")):
            if identity != self._identity:
                for entry in list(self._folder.list(f"parts/{identity}/")):
                    self._folder.delete(entry.key)

    def _metrics(self, found: _Found) -> dict[str, float]:
        metrics: dict[str, float] = {
            "images": len(found.pictures),
            "unreadable": len(found.unreadable),
            "flagged": len(found.flagged),
        }
        if self._computed:
            metrics["seconds_per_image"] = self._seconds / self._computed
        if self._truth is not None:
            metrics["dice"] = found.tally.mean_dice
        return metrics


@dataclass
class _Made:
    """What becomes a part: filled picture by picture."""

    truth: Truth | None
    rows: list[str] = field(default_factory=list)
    pictures: list[PictureRecord] = field(default_factory=list)
    unreadable: list[UnreadableRecord] = field(default_factory=list)
    judged: list[JudgedImage] = field(default_factory=list)
    dice_sums: NDArray[np.float64] = field(
        default_factory=lambda: np.zeros((NUM_BONES, len(LEVELS)))
    )
    flagged: list[FlaggedImage] = field(default_factory=list)

    def add(self, item: Prediction) -> None:
        """Add the masks of a picture."""
        self.pictures.append(PictureRecord(path=item.path, height=item.height, width=item.width))
        image = _image(self.pictures[-1])
        self.rows.append(submission.rows(image, item.codes()))
        self.flagged += flagged_image(image, item.runs, item.confidences, item.second_parts)
        if self.truth is not None:
            self._judge(item, self.truth(item.path))

    def _judge(self, item: Prediction, truth: TrueHand) -> None:
        self.judged.append(judge(item.runs, truth, item.height, item.width))
        if item.logits is not None:
            self.dice_sums += dice_at_levels(item.logits, truth.runs)

    def part(self, sources: str, csv_sha256: str) -> Part:
        """Return the record."""
        sums = self.dice_sums.tolist() if self.judged else ()
        return Part(
            sources=sources,
            csv_sha256=csv_sha256,
            pictures=tuple(self.pictures),
            unreadable=tuple(self.unreadable),
            judged=tuple(self.judged),
            dice_sums=tuple(tuple(of_bone) for of_bone in sums),
            flagged=tuple(self.flagged),
        )


class _Found:
    """What all parts hold together; the figures of images go to the table and into sums."""

    def __init__(self, table: TextIO) -> None:
        self.pictures: list[PictureRecord] = []
        self.unreadable: list[UnreadableRecord] = []
        self.flagged: list[FlaggedImage] = []
        self.tally = Tally()
        self.dice_sums = np.zeros((NUM_BONES, len(LEVELS)))
        self._table = table
        table.write(HEADER)

    def add(self, part: Part) -> None:
        """Add a part, in the order of parts."""
        self.pictures += part.pictures
        self.unreadable += part.unreadable
        self.flagged += part.flagged
        if part.judged:
            self._add_judged(part)

    def _add_judged(self, part: Part) -> None:
        self.tally.add(part.judged)
        self.dice_sums += np.array(part.dice_sums)
        for picture, judged in zip(part.pictures, part.judged, strict=True):
            self._table.write(submission.rows(_image(picture), judged.rows()))

    def flags(self) -> Flags:
        """Return the flagged pictures of all."""
        return Flags(images=len(self.pictures), flagged=in_order(self.flagged))

    def of_folder(self, folder: str) -> Pictures:
        """Return what was read of a folder."""
        return Pictures(
            folder=folder, pictures=tuple(self.pictures), unreadable=tuple(self.unreadable)
        )


def _chunks(sources: Sequence[Source], batch_size: int) -> Iterator[Sequence[Source]]:
    images = -(-PART_IMAGES // batch_size) * batch_size
    for start in range(0, len(sources), images):
        yield sources[start : start + images]


def _digest(sources: Iterable[Source]) -> str:
    return canonical_digest([[source.path, source.tag] for source in sources])


def _image(record: PictureRecord) -> submission.Image:
    return submission.Image(record.path, record.height, record.width)
