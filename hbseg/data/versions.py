"""The documents of a dataset: one for each immutable version, and the small pointer to them.

`<data>/index.json` names the current version and the others; `<data>/versions/<hash>/` holds
`dataset.json`, the shards with their tables, and last of all `_SUCCESS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import Field, NonNegativeInt

from hbseg.config.specs import PrepareSpec
from hbseg.data.shards import FORMAT, Digest, ShardKey, damage_told, read_document
from hbseg.documents import Block, Document, canonical_digest
from hbseg.errors import BucketMissing, NotFoundError
from hbseg.storage.documents import update
from hbseg.storage.store import Store

INDEX: Final = "index.json"
DATASET: Final = "dataset.json"
PREPARE: Final = "hbseg data prepare SRC"

_TRIES: Final = 20
"""Tries to swap the index before somebody else's writes are taken for a fault."""

Version = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class ShardRecord(Block):
    """One shard of a version."""

    key: ShardKey
    sha256: Digest
    bytes: NonNegativeInt
    samples: NonNegativeInt
    table_sha256: Digest
    """sha256 of the shard's table, the key with `.json` for `.bin`."""

    @property
    def table(self) -> str:
        """Key of the shard's table."""
        return table_key(self.key)


class FoldRecord(Block):
    """How many are held out together."""

    persons: NonNegativeInt
    images: NonNegativeInt


class Counts(Block):
    """How much is in a version."""

    train_images: NonNegativeInt = 0
    train_persons: NonNegativeInt = 0
    test_images: NonNegativeInt = 0
    test_persons: NonNegativeInt = 0
    shards: NonNegativeInt = 0


class DatasetRecord(Document):
    """`dataset.json`: what a version is made of."""

    kind: Literal["DatasetRecord"] = "DatasetRecord"
    version: Version
    format: Literal[1] = FORMAT
    spec: PrepareSpec
    counts: Counts
    folds: tuple[FoldRecord, ...]
    shards: tuple[ShardRecord, ...]


class VersionEntry(Block):
    """A version in the index."""

    version: Version
    counts: Counts


class DatasetIndex(Document):
    """`index.json`: the versions, and which one a training takes that names none."""

    kind: Literal["DatasetIndex"] = "DatasetIndex"
    current: Version
    versions: tuple[VersionEntry, ...]
    """Sorted by hash."""


def table_key(shard: str) -> str:
    """Return the key of a shard's table."""
    return shard.removesuffix(".bin") + ".json"


def version_hash(spec: PrepareSpec, images: Iterable[tuple[str, str, str | None]]) -> str:
    """Return the name of a version, 16 hexadecimal digits.

    `images` are path, sha256 of the picture and sha256 of the annotation, in any order.
    """
    content = {
        "format": FORMAT,
        "spec": spec.to_mapping(),
        "images": sorted(map(list, images), key=lambda image: str(image[0])),
    }
    return canonical_digest(content)[:16]


def read_index(data: Store) -> DatasetIndex:
    """Return the index of a dataset folder.

    Raises:
        NotFoundError: there is none.
        ContractError: it is damaged.
        VersionError: a newer hbseg wrote it.
    """
    try:
        content = data.get(INDEX)
    except BucketMissing:
        raise
    except NotFoundError:
        raise NotFoundError(f"no dataset in {data.url}", f"run: {PREPARE}") from None
    return read_document(DatasetIndex, content, source=f"{data.url}/{INDEX}")


def publish(data: Store, entry: VersionEntry) -> None:
    """Make a finished version the current one of the index; does nothing if it is already.

    Safe beside other writers: no version of theirs is lost.

    Raises:
        ConflictError: others changed the index at each of 20 tries.
        ContractError: the index is damaged.
    """

    def with_entry(old: DatasetIndex) -> DatasetIndex:
        others = [known for known in old.versions if known.version != entry.version]
        versions = tuple(sorted([*others, entry], key=lambda known: known.version))
        return DatasetIndex(current=entry.version, versions=versions)

    first = DatasetIndex(current=entry.version, versions=(entry,))
    with damage_told(f"{data.url}/{INDEX}"):
        update(data, INDEX, DatasetIndex, with_entry, initial=first, tries=_TRIES)
