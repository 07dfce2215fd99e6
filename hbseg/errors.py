"""Errors that a user meets, each with its exit codes.

Every error of this module is a message for a person: one line that says what is wrong, with which
value, what was expected, and the next step. Anything else that is raised is a bug and keeps its
traceback. Codes: the command's own in `exit_code`, a step's (in a pod or a local process) in
`step_exit_code`; a step code below 128 is permanent, 128 and above may be tried again.
"""

from __future__ import annotations

from typing import ClassVar

from hbseg.exit_codes import CommandExit, StepExit


class HbsegError(Exception):
    """Base of all errors that are no bug; `message` and `hint` make up its one line."""

    exit_code: ClassVar[int] = CommandExit.BUG
    step_exit_code: ClassVar[int] = StepExit.BUG

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(HbsegError):
    """A command was called with arguments that do not go together."""

    exit_code = CommandExit.USAGE
    step_exit_code = StepExit.SPEC


class NotFoundError(HbsegError):
    """A run, bucket, file or namespace does not exist."""

    exit_code = CommandExit.NOT_FOUND
    step_exit_code = StepExit.MISSING_INPUT


class BucketMissing(NotFoundError):
    """The bucket itself does not exist; no advice on what should be in it helps."""


class UnreachableError(HbsegError):
    """Storage or cluster does not answer; trying again may help."""

    exit_code = CommandExit.NOT_AVAILABLE
    step_exit_code = StepExit.TRANSIENT


class PeerLost(UnreachableError):
    """Another process of the training is gone or does not answer; its own end is the cause."""


class DeniedError(HbsegError):
    """Storage or cluster answers, but does not allow this."""

    exit_code = CommandExit.NOT_AVAILABLE
    step_exit_code = StepExit.MISSING_INPUT


class InvalidInput(HbsegError):
    """Data, a name or a file from outside is not as it must be."""

    exit_code = CommandExit.REFUSED
    step_exit_code = StepExit.DATA


class SpecError(InvalidInput):
    """A spec or a setting is not valid."""

    step_exit_code = StepExit.SPEC


class ContractError(InvalidInput):
    """A checkpoint or an engine does not fit what was asked of it."""

    step_exit_code = StepExit.CONTRACT


class VersionError(InvalidInput):
    """A newer version of hbseg wrote a document that this one does not know how to read."""

    step_exit_code = StepExit.CONTRACT


class ConflictError(InvalidInput):
    """Somebody else owns the name or is at work on it."""


class Terminated(HbsegError):
    """SIGTERM arrived; what can be kept has been."""

    exit_code = CommandExit.CANCELLED
    step_exit_code = StepExit.TERMINATED


class KilledError(HbsegError):
    """A process of the step was killed, usually for its memory."""

    exit_code = CommandExit.JOB_FAILED
    step_exit_code = StepExit.KILLED


class DiskFullError(HbsegError):
    """A local disk has no room left."""

    exit_code = CommandExit.REFUSED
    step_exit_code = StepExit.BUG


class StepFailed(HbsegError):
    """A step ended in failure."""

    exit_code = CommandExit.JOB_FAILED


class NotFinished(HbsegError):
    """A step did not finish in the time that was given."""

    exit_code = CommandExit.NOT_FINISHED


class Cancelled(HbsegError):
    """A step was cancelled."""

    exit_code = CommandExit.CANCELLED
