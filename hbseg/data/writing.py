"""Writing the shards of a dataset version, one at a time in each process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hbseg.data.annotation import read
from hbseg.data.check import Problem
from hbseg.data.evidence import read_file
from hbseg.data.frames import pack_picture, pack_polygons
from hbseg.data.pictures import read_gray
from hbseg.data.raw import RawImage
from hbseg.data.shards import Sample, ShardTable, Span, read_document
from hbseg.data.versions import ShardRecord, table_key
from hbseg.errors import ContractError, InvalidInput
from hbseg.storage.files import disk_full
from hbseg.storage.markers import sha256_of, sha256_of_file
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store


@dataclass(frozen=True)
class Hand:
    """A picture of the raw set and what its files were when they were checked."""

    image: RawImage
    picture_sha256: str
    annotation_sha256: str | None
    fold: int | None = None
    """Fold in which it is held out; none for the test split, and until folds are drawn."""
    reading: int | None = None
    """Number of the way in which its pixels are read; none: they are the same in all ways."""

    @property
    def picture_key(self) -> str:
        """What decides its pixels: the file, and how it is read."""
        return (
            self.picture_sha256 if self.reading is None else f"{self.picture_sha256}/{self.reading}"
        )


@dataclass(frozen=True)
class ShardPlan:
    """What one shard will hold."""

    key: str
    hands: tuple[Hand, ...]


def finished_shards(folder: Store, plans: Iterable[ShardPlan]) -> dict[str, ShardRecord]:
    """Return, by key, the shards that an earlier call wrote whole.

    A table is written after its shard: where it is there and fits, so does the shard.
    """
    sizes = {entry.key: entry.size for entry in folder.list("shards/")}
    records = {}
    for plan in plans:
        if plan.key in sizes and table_key(plan.key) in sizes:
            record = _finished(folder, plan, sizes[plan.key])
            if record is not None:
                records[plan.key] = record
    return records


def write_shard(root: Path, where: Store | str, plan: ShardPlan) -> ShardRecord | list[Problem]:
    """Write a shard and then its table; return its record.

    `where` is the version's folder, or its URL in another process. If pictures cannot be decoded,
    nothing is written and they are returned.

    Raises:
        InvalidInput: a file changed after it was checked.
        DiskFullError: the folder for temporary files, or storage, is full.
    """
    folder = open_store(where) if isinstance(where, str) else where
    with _scratch() as path:
        samples, spoiled = _write_frames(root, plan, path)
        if spoiled:
            return spoiled
        table = ShardTable(
            shard=plan.key,
            sha256=sha256_of_file(path),
            bytes=path.stat().st_size,
            samples=tuple(samples),
        )
        folder.upload(plan.key, path)
    content = table.to_json()
    folder.put(table_key(plan.key), content)
    return _record(table, content)


def _write_frames(root: Path, plan: ShardPlan, path: Path) -> tuple[list[Sample], list[Problem]]:
    samples: list[Sample] = []
    spoiled: list[Problem] = []
    with path.open("wb") as file:
        for hand in plan.hands:
            data = _unchanged(root, hand.image.path, hand.picture_sha256)
            try:
                pixels = read_gray(data, source="picture")
            except InvalidInput as error:
                spoiled.append(_unreadable(hand, error))
                continue
            picture = _append(file, pack_picture(pixels))
            polygons = None
            if hand.image.annotation is not None:
                frame = _packed_polygons(root, hand.image.annotation, hand.annotation_sha256)
                polygons = _append(file, frame)
            samples.append(_sample(plan, hand, pixels.shape, picture, polygons))
    return samples, spoiled


def _sample(
    plan: ShardPlan, hand: Hand, shape: tuple[int, ...], picture: Span, polygons: Span | None
) -> Sample:
    image = hand.image
    return Sample(
        path=image.path,
        person=image.person,
        side=image.side,
        split=image.split,
        fold=hand.fold,
        height=shape[0],
        width=shape[1],
        shard=plan.key,
        picture=picture,
        polygons=polygons,
    )


def _packed_polygons(root: Path, path: str, digest: str | None) -> bytes:
    return pack_polygons(read(_unchanged(root, path, digest), source=path))


def _append(file: BinaryIO, frame: bytes) -> Span:
    offset = file.tell()
    file.write(frame)
    return Span(offset=offset, length=len(frame))


def _unchanged(root: Path, path: str, digest: str | None) -> bytes:
    data = read_file(root, path)
    if sha256_of(data) != digest:
        raise InvalidInput(
            f"{root / path} changed while the set was prepared", "run hbseg data prepare again"
        )
    return data


def _unreadable(hand: Hand, error: InvalidInput) -> Problem:
    message = error.message.removeprefix("picture: ")
    return Problem(
        image=hand.image.path, rule="picture-unreadable", severity="error", message=message
    )


def _finished(folder: Store, plan: ShardPlan, size: int) -> ShardRecord | None:
    content = folder.get(table_key(plan.key))
    try:
        table = read_document(ShardTable, content, source=table_key(plan.key))
    except ContractError:
        return None
    planned = [(hand.image.path, hand.fold) for hand in plan.hands]
    found = [(sample.path, sample.fold) for sample in table.samples]
    whole = table.shard == plan.key and table.bytes == size and found == planned
    return _record(table, content) if whole else None


def _record(table: ShardTable, content: bytes) -> ShardRecord:
    return ShardRecord(
        key=table.shard,
        sha256=table.sha256,
        bytes=table.bytes,
        samples=len(table.samples),
        table_sha256=sha256_of(content),
    )


@contextmanager
def _scratch() -> Iterator[Path]:
    """Yield a path for one temporary file, which is removed afterwards."""
    place = tempfile.gettempdir()
    try:
        with tempfile.TemporaryDirectory(prefix="hbseg-shard-") as folder:
            yield Path(folder) / "shard"
    except OSError as error:
        hint = "free some space, or set TMPDIR to a larger disk"
        if full := disk_full(error, Path(place), hint):
            raise full from None
        raise
