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
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hbseg import rle, submission
from hbseg.config.specs import InferSpec
from hbseg.documents import Document, canonical_digest
from hbseg.errors import ContractError, InvalidInput, NotFoundError
from hbseg.ml.engines.card import Engine
from hbseg.ml.predict import Prediction, Source, Unreadable, predict
from hbseg.ml.sources import Truth, say
from hbseg.runs.progress import Heartbeat
from hbseg.runs.results import PICTURES, PictureRecord, Pictures, UnreadableRecord
from hbseg.runs.steps import SHORT
from hbseg.storage.markers import sha256_of, sha256_of_file
from hbseg.storage.store import Store

SUBMISSION = "submission.csv"
DICE = "dice.csv"
"""Dice of each image and bone, in the mode valid."""
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
    dice: tuple[tuple[float, ...], ...] = ()
    """Dice of the 29 bones of each picture, where the truth is known."""


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
        merged = self._work / SUBMISSION
        try:
            parts = self._merge(sources, merged)
            self._check(merged, parts)
            self._folder.upload(SUBMISSION, merged)
            outputs = {SUBMISSION: sha256_of_file(merged), **self._write_tables(parts)}
        finally:
            merged.unlink(missing_ok=True)
        self._clear_foreign()
        return Inferred(outputs, self._metrics(parts))

    def _merge(self, sources: Sequence[Source], merged: Path) -> list[Part]:
        parts = []
        self._heartbeat.beat(0, len(sources), "images")
        with merged.open("wb") as file:
            file.write(submission.header().encode())
            done = 0
            for number, chunk in enumerate(_chunks(sources, self._engine.card.batch_size)):
                part, rows = self._stored(number, chunk) or self._compute(number, chunk)
                file.write(rows)
                parts.append(part)
                done += len(chunk)
                self._heartbeat.beat(done, len(sources), "images")
        return parts

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
        rows, pictures, unreadable, dice = [], [], [], []
        for item in self._predictions(sources):
            self._heartbeat.touch()
            if isinstance(item, Unreadable):
                unreadable.append(self._left_out(item))
                continue
            pictures.append(PictureRecord(path=item.path, height=item.height, width=item.width))
            rows.append(submission.rows(_image(pictures[-1]), item.codes()))
            dice += self._dice(item)
        data = "".join(rows).encode()
        part = Part(
            sources=_digest(sources),
            csv_sha256=sha256_of(data),
            pictures=tuple(pictures),
            unreadable=tuple(unreadable),
            dice=tuple(dice),
        )
        self._parts.put(f"{number:05d}.csv", data)
        self._parts.put(f"{number:05d}.json", part.to_json())
        self._count(number, len(pictures), time.perf_counter() - start)
        return part, data

    def _predictions(self, sources: Sequence[Source]) -> Iterator[Prediction | Unreadable]:
        return predict(
            self._engine,
            sources,
            threshold=self._spec.threshold,
            one_piece=self._spec.one_piece,
        )

    def _left_out(self, item: Unreadable) -> UnreadableRecord:
        if self._spec.mode != "images":
            raise item.error
        say(f"left out {item.path}: {item.error}")
        return UnreadableRecord(path=item.path, problem=str(item.error))

    def _dice(self, item: Prediction) -> list[tuple[float, ...]]:
        if self._truth is None:
            return []
        truth = self._truth(item.path)
        return [tuple(rle.dice(*pair) for pair in zip(item.runs, truth, strict=True))]

    def _count(self, number: int, images: int, seconds: float) -> None:
        self._computed += images
        self._seconds += seconds
        say(f"part {number + 1}: {images} images in {seconds:.1f} s")

    def _check(self, merged: Path, parts: Iterable[Part]) -> None:
        parts = list(parts)
        images = [_image(picture) for part in parts for picture in part.pictures]
        unreadable = [item for part in parts for item in part.unreadable]
        if not images:
            raise InvalidInput(
                f"none of the {len(unreadable)} pictures in {self._spec.images} can be read",
                f"the first: {unreadable[0].problem}",
            )
        problems = submission.validate(merged, images)
        if problems:
            raise ContractError(
                f"the parts in {self._parts.url} make no valid submission: {problems[0]}",
                "delete them and run the step again",
            )

    def _write_tables(self, parts: Sequence[Part]) -> dict[str, str]:
        tables = {}
        if self._truth is not None:
            tables[DICE] = "".join(_dice_lines(parts)).encode()
        if self._spec.images is not None:
            tables[PICTURES] = Pictures(
                folder=self._spec.images,
                pictures=tuple(picture for part in parts for picture in part.pictures),
                unreadable=tuple(item for part in parts for item in part.unreadable),
            ).to_json()
        for key, data in tables.items():
            self._folder.put(key, data)
        return {key: sha256_of(data) for key, data in tables.items()}

    def _clear_foreign(self) -> None:
        for identity in list(self._folder.list_folders("parts")):
            if identity != self._identity:
                for entry in list(self._folder.list(f"parts/{identity}/")):
                    self._folder.delete(entry.key)

    def _metrics(self, parts: Sequence[Part]) -> dict[str, float]:
        metrics: dict[str, float] = {
            "images": sum(len(part.pictures) for part in parts),
            "unreadable": sum(len(part.unreadable) for part in parts),
        }
        if self._computed:
            metrics["seconds_per_image"] = self._seconds / self._computed
        dice = [value for part in parts for row in part.dice for value in row]
        if dice:
            metrics["dice"] = sum(dice) / len(dice)
        return metrics


def _chunks(sources: Sequence[Source], batch_size: int) -> Iterator[Sequence[Source]]:
    images = -(-PART_IMAGES // batch_size) * batch_size
    for start in range(0, len(sources), images):
        yield sources[start : start + images]


def _digest(sources: Iterable[Source]) -> str:
    return canonical_digest([[source.path, source.tag] for source in sources])


def _image(record: PictureRecord) -> submission.Image:
    return submission.Image(record.path, record.height, record.width)


def _dice_lines(parts: Iterable[Part]) -> Iterator[str]:
    yield "image_name,class,dice\n"
    for part in parts:
        for picture, values in zip(part.pictures, part.dice, strict=True):
            codes = [f"{value:.6f}" for value in values]
            yield submission.rows(_image(picture), codes)
