"""What a prepare says of itself: the version that it made, and what it left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from hbseg.data.versions import Counts, Version
from hbseg.documents import Block, Document
from hbseg.storage.store import Store

if TYPE_CHECKING:
    from hbseg.data.prepare import Prepared

PREPARED: Final = "prepared.json"


class LeftOut(Block):
    """A picture that is not in the version."""

    image: str
    """Its path in the raw set."""
    reason: str


class PreparedRecord(Document):
    """`prepare/prepared.json` of a run, and what `hbseg data prepare` prints."""

    kind: Literal["Prepared"] = "Prepared"
    raw: str
    """URL of the raw set."""
    version: Version
    unchanged: bool
    """Whether the version was finished already and nothing was written."""
    counts: Counts
    left_out: tuple[LeftOut, ...] = Field(default=(), alias="leftOut")

    @classmethod
    def of(cls, prepared: Prepared, *, raw: str) -> PreparedRecord:
        """Return the record of what `prepare` did with the set at `raw`."""
        return cls(
            raw=raw,
            version=prepared.version,
            unchanged=prepared.unchanged,
            counts=prepared.counts,
            left_out=tuple(LeftOut(image=p.image, reason=p.message) for p in prepared.left_out),
        )


def read_prepared(folder: Store) -> PreparedRecord:
    """Return the record in the folder of a step. Raises NotFoundError where it is not there."""
    return PreparedRecord.from_text(folder.get(PREPARED), source=f"{folder.url}/{PREPARED}")
