"""Reading a prepared dataset version, from a folder or from S3, by ranged reads.

numpy is loaded when a sample is read; the control plane looks up versions without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from hbseg.data.places import version_folder
from hbseg.data.shards import AGAIN, Sample, ShardTable, Span, read_document
from hbseg.data.versions import DATASET, PREPARE, DatasetRecord, read_index
from hbseg.errors import BucketMissing, ContractError, InvalidInput, NotFoundError, SpecError
from hbseg.storage.markers import Marker, read_marker, verified
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hbseg.data.annotation import Polygons

Part = Literal["train", "validation", "test"]


def open_version(data: Store, version: str | None = None) -> Dataset:
    """Return a dataset version; none takes the current one of the index.

    Raises:
        NotFoundError: no dataset there, or no such finished version.
        InvalidInput: `version` is no version's hash.
        ContractError: a document of it is damaged.
    """
    if version is None:
        version = read_index(data).current
    folder = version_folder(data, version)
    try:
        marker = read_marker(folder)
    except BucketMissing:
        raise
    except NotFoundError:
        raise NotFoundError(
            f"no finished dataset version {version} in {data.url}", f"run: {PREPARE}"
        ) from None
    content = _checked(folder, DATASET, marker)
    record = read_document(DatasetRecord, content, source=f"{folder.url}/{DATASET}")
    return Dataset(folder, record)


class Dataset:
    """A finished dataset version. Safe to share between threads and to pickle."""

    def __init__(self, folder: Store, record: DatasetRecord) -> None:
        self.folder = folder
        """Where it lies."""
        self.record = record
        """Its `dataset.json`: spec, counts, folds, shards."""
        self._samples: list[Sample] | None = None

    @property
    def version(self) -> str:
        """Hash of the version, 16 hexadecimal digits."""
        return self.record.version

    def samples(self, part: Part, fold: int = 0) -> list[Sample]:
        """Return the samples of a part, sorted by the picture's path.

        `train` are the training pictures that are not in `fold`, `validation` those in it, `test`
        the test pictures (whatever `fold` is). The tables are read once, at the first call.

        Raises:
            SpecError: the version has no such fold.
            ContractError: a table is damaged.
        """
        folds = len(self.record.folds)
        if not 0 <= fold < folds:
            raise SpecError(f"fold {fold}: dataset {self.version} has folds 0 to {folds - 1}")
        if part == "test":
            return [sample for sample in self._all() if sample.split == "test"]
        held_out = part == "validation"
        return [s for s in self._all() if s.split == "train" and (s.fold == fold) == held_out]

    def picture(self, sample: Sample) -> NDArray[np.uint8]:
        """Return the gray picture of a sample, uint8 [H, W] at native size, read-only.

        Raises:
            ContractError: the shard is damaged.
        """
        from hbseg.data.frames import unpack_picture

        frame = self._frame(sample, sample.picture)
        return unpack_picture(frame, sample.shape, source=self._place(sample))

    def polygons(self, sample: Sample) -> Polygons:
        """Return the polygons of a training sample, in pixels of its picture.

        Raises:
            InvalidInput: a test sample, which has none.
            ContractError: the shard is damaged.
        """
        from hbseg.data.frames import unpack_polygons

        if sample.polygons is None:
            raise InvalidInput(f"{sample.path} has no polygons: it is of the test split")
        frame = self._frame(sample, sample.polygons)
        return unpack_polygons(frame, source=self._place(sample))

    def load(self, sample: Sample) -> tuple[NDArray[np.uint8], Polygons]:
        """Return picture and polygons of a training sample with one ranged read.

        Raises:
            InvalidInput, ContractError: as `picture` and `polygons`.
        """
        from hbseg.data.frames import unpack_picture, unpack_polygons

        picture, polygons = sample.picture, sample.polygons
        if polygons is None or polygons.offset != picture.offset + picture.length:
            return self.picture(sample), self.polygons(sample)
        both = Span(offset=picture.offset, length=picture.length + polygons.length)
        frames = self._frame(sample, both)
        place = self._place(sample)
        return (
            unpack_picture(frames[: picture.length], sample.shape, source=place),
            unpack_polygons(frames[picture.length :], source=place),
        )

    def __getstate__(self) -> dict[str, Any]:
        # An S3 client cannot be pickled: another process opens its own.
        return {**self.__dict__, "folder": self.folder.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, folder=open_store(state["folder"]))

    def _all(self) -> list[Sample]:
        if self._samples is None:
            tables = (self._table(number) for number in range(len(self.record.shards)))
            found = [sample for table in tables for sample in table.samples]
            self._samples = sorted(found, key=lambda sample: sample.path)
        return self._samples

    def _table(self, number: int) -> ShardTable:
        shard = self.record.shards[number]
        source = f"{self.folder.url}/{shard.table}"
        content = verified(_get(self.folder, shard.table), shard.table_sha256, source=source)
        table = read_document(ShardTable, content, source=source)
        inside = all(s.shard == shard.key and s.end <= shard.bytes for s in table.samples)
        if not inside or len(table.samples) != shard.samples:
            raise ContractError(f"{source} does not fit its dataset.json", AGAIN)
        return table

    def _frame(self, sample: Sample, span: Span) -> bytes:
        try:
            return self.folder.get_range(sample.shard, span.offset, span.length)
        except NotFoundError:
            raise ContractError(f"{self.folder.url}/{sample.shard} is missing", AGAIN) from None

    def _place(self, sample: Sample) -> str:
        return f"{self.folder.url}/{sample.shard} ({sample.path})"


def _checked(folder: Store, key: str, marker: Marker) -> bytes:
    return verified(
        _get(folder, key), marker.outputs.get(key, "nothing of it"), source=f"{folder.url}/{key}"
    )


def _get(folder: Store, key: str) -> bytes:
    try:
        return folder.get(key)
    except NotFoundError:
        raise ContractError(f"{folder.url}/{key} is missing", AGAIN) from None
