"""Shards: the samples of a dataset version, many in one object, each readable on its own.

`shards/train-00000.bin` is one zstd frame (with checksum) after the other: for each sample the
gray picture, uint8 [H, W] row by row, and right behind it the polygons (not for test pictures);
see `hbseg.data.frames`. `shards/train-00000.json`, written after it, is its table. The documents
here need no numpy: the control plane reads versions without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import Field, model_validator

from hbseg.data.formats import MAX_PIXELS
from hbseg.documents import Block, Document
from hbseg.errors import ContractError, SpecError

FORMAT: Final = 1
"""Number of this format; part of every version's hash."""
AGAIN: Final = "delete that version's folder and run: hbseg data prepare SRC"

ShardKey = Annotated[str, Field(pattern=r"^shards/(train|test)-[0-9]{5,9}\.bin$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Pixels = Annotated[int, Field(ge=1, le=1_000_000)]


class Span(Block):
    """Place of a frame in its shard, in bytes."""

    offset: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(ge=1, le=1 << 30)]

    @property
    def end(self) -> int:
        """First byte behind the frame."""
        return self.offset + self.length


class Sample(Block):
    """One hand of a dataset: a row of a shard's table."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    """Path of the picture in the raw set, e.g. `train/DCM/ID001/x.png`."""
    person: str
    side: Literal["R", "L"]
    split: Literal["train", "test"]
    fold: Annotated[int, Field(ge=0)] | None = None
    """Fold in which a training picture is held out; none for test pictures."""
    height: Pixels
    """Rows of the picture, in pixels."""
    width: Pixels
    """Columns of the picture, in pixels."""
    shard: ShardKey
    """Key of the shard in the version's folder."""
    picture: Span
    polygons: Span | None = None
    """None for test pictures."""

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.height, self.width

    @property
    def end(self) -> int:
        """First byte of the shard behind the sample's frames."""
        return max(self.picture.end, self.polygons.end if self.polygons else 0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.height * self.width > MAX_PIXELS:
            raise ValueError(f"{self.width} x {self.height} pixels are too many")
        if (self.split == "train") != (self.fold is not None):
            raise ValueError("training samples have a fold, test samples have none")
        return self


class ShardTable(Document):
    """What is in one shard."""

    kind: Literal["ShardTable"] = "ShardTable"
    shard: ShardKey
    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]
    """Size of the shard."""
    samples: tuple[Sample, ...]


Doc = TypeVar("Doc", bound=Document)


def read_document(kind: type[Doc], data: bytes, *, source: str) -> Doc:
    """Return a document that hbseg wrote.

    Raises:
        ContractError: it is damaged or of another format.
        VersionError: a newer hbseg wrote it.
    """
    with damage_told(source):
        return kind.from_text(data, source=source)


@contextmanager
def damage_told(source: str) -> Iterator[None]:
    """Turn a SpecError into the ContractError that a document of ours is damaged."""
    try:
        yield
    except SpecError as error:
        reason = " ".join(str(error).split())[:300]
        raise ContractError(f"{source} is damaged: {reason}", AGAIN) from None
