"""Checks of what hbseg needs: each a small function that says what is well, or how to fix it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any

from hbseg.documents import Block
from hbseg.errors import DeniedError, HbsegError


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, but something is odd."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It could not be found out, e.g. for want of rights."""


class Check(Block):
    """What one check found."""

    name: str
    status: Status
    message: str
    """What was found, one line; never the value of a secret."""
    fix: str = ""
    """The next step, where there is one."""


def ok(name: str, message: str) -> Check:
    """Return that all is well."""
    return Check(name=name, status=Status.OK, message=message)


def warning(name: str, message: str, fix: str = "") -> Check:
    """Return that something is odd."""
    return Check(name=name, status=Status.WARNING, message=message, fix=fix)


def failed(name: str, message: str, fix: str = "") -> Check:
    """Return that something will not work."""
    return Check(name=name, status=Status.FAILED, message=message, fix=fix)


def unknown(name: str, message: str, fix: str = "") -> Check:
    """Return that it could not be found out."""
    return Check(name=name, status=Status.UNKNOWN, message=message, fix=fix)


def guarded(
    name: str,
    look: Callable[..., Iterable[Check]],
    *given: Any,
    denied: Callable[[str, str, str], Check] = unknown,
) -> Iterator[Check]:
    """Yield what `look(*given)` finds; an error is a finding too.

    `denied` makes the finding where access is denied: unknown for objects that a user of hbseg
    need not read, failed for what hbseg cannot work without.
    """
    try:
        yield from look(*given)
    except DeniedError as error:
        yield denied(name, error.message, _fix(error))
    except HbsegError as error:
        yield failed(name, error.message, _fix(error))


def _fix(error: HbsegError) -> str:
    """Return an error's hint, unless it is to run the doctor."""
    hint = error.hint or ""
    return "" if "hbseg doctor" in hint else hint
