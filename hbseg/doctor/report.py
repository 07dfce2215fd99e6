"""The document with all that a doctor found, here or in a pod."""

from __future__ import annotations

from typing import Final, Literal

from hbseg.doctor.check import Check, Status
from hbseg.documents import Document
from hbseg.exit_codes import CommandExit

MAX_MESSAGE: Final = 250
"""Characters of a finding that a pod sends: its whole report must fit 4,096 bytes."""


class DoctorReport(Document):
    """What a doctor found."""

    kind: Literal["DoctorReport"] = "DoctorReport"
    backend: str
    """`kubernetes`, `local`, or `pod` for what a pod found."""
    namespace: str | None = None
    reachable: bool = True
    """Whether the cluster answered; true for the local backend."""
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, 4 where the cluster is not reachable, else 5."""
        if not self.reachable:
            return CommandExit.NOT_AVAILABLE
        return (
            CommandExit.REFUSED
            if any(check.status == Status.FAILED for check in self.checks)
            else CommandExit.DONE
        )

    def for_termination(self) -> bytes:
        """Return the report as a pod's termination message, long sentences cut."""
        checks = tuple(
            check.model_copy(update={"message": check.message[:MAX_MESSAGE]})
            for check in self.checks
        )
        return self.model_copy(update={"checks": checks}).model_dump_json(by_alias=True).encode()
