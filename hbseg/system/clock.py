"""Timestamps as documents, logs and events carry them: ISO 8601, UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """Return the time by this machine's clock, as documents carry it."""
    return document_time(datetime.now(UTC))


def document_time(moment: datetime) -> str:
    """Return a moment as documents carry it: to a second, `2026-01-31T12:00:00+00:00`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def z_time(moment: datetime, timespec: str = "milliseconds") -> str:
    """Return a moment as log lines carry it: `2026-01-31T12:00:00.000Z`.

    `timespec` is the precision, see `datetime.isoformat`: events have seconds, a Lease has
    microseconds.
    """
    return moment.astimezone(UTC).isoformat(timespec=timespec).removesuffix("+00:00") + "Z"


def parse(text: str) -> datetime:
    """Return the moment that ISO 8601 text means, in UTC; without a zone it is this machine's.

    Raises:
        ValueError: the text is no time.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r:.60} is outside of the years 1 to 9999") from None
