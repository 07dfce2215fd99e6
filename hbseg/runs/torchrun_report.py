"""What torchrun leaves for the launcher where a training fails: exit codes, or who was missed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hbseg.documents import Block, Document
from hbseg.errors import InvalidInput
from hbseg.storage.files import write_atomically


class RankExit(Block):
    """How a rank of this node ended, where it did not end well."""

    rank: int
    """Among all ranks of the training."""
    local_rank: int
    """Among those of this node."""
    pid: int
    exit_code: int
    """-n for signal n, since codes above 128 may be a step's own."""
    time: int
    """When torchrun saw it, in seconds since 1970."""
    stopped: bool
    """Whether torchrun ended the rank, because another one had failed."""


class TorchrunReport(Document):
    """A local file that torchrun's process writes and the launcher reads; never in storage."""

    kind: Literal["TorchrunReport"] = "TorchrunReport"
    exits: list[RankExit] = []
    """The first that torchrun saw comes first."""
    nodes: Literal["absent", "lost"] | None = None
    """Why torchrun itself failed, if another node was the cause: it did not come, or the one that
    keeps the rendezvous is gone."""

    def write(self, path: Path) -> None:
        """Write the report whole or not at all.

        Raises:
            DiskFullError, DeniedError, OSError: see `hbseg.storage.files.write_error`.
        """
        write_atomically(path, self.to_json())


def read_torchrun_report(path: Path) -> TorchrunReport:
    """Return the report in `path`; an empty one where torchrun was killed before it wrote any."""
    try:
        return TorchrunReport.from_text(path.read_bytes(), source=str(path))
    except (OSError, InvalidInput):
        return TorchrunReport()
