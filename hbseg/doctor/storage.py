"""Checks of storage from where this runs: here, or in a pod. Nothing is left behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from hbseg.doctor.check import Check, failed, guarded, ok, unknown, warning
from hbseg.errors import HbsegError
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store

MAX_SKEW: Final = timedelta(seconds=30)
REFUSED_SKEW: Final = timedelta(minutes=15)
"""From here on S3 refuses every request."""


def storage(folders: Mapping[str, str]) -> Iterator[Check]:
    """Yield the findings on each folder, name: URL, and on the clock of S3."""
    if not folders:
        yield unknown("storage", "no runs and no data given", "set HBSEG_RUNS and HBSEG_DATA")
    for name, url in folders.items():
        yield from guarded(f"{name}: read", _folder, name, url, denied=failed)
    if s3 := next((url for url in folders.values() if url.startswith("s3://")), None):
        yield from guarded("S3 clock", _s3_clock, s3, denied=failed)


def _folder(name: str, url: str) -> Iterator[Check]:
    store = open_store(url)
    number = sum(1 for _ in store.list_folders())
    yield ok(f"{name}: read", f"{store.url} ({number} folders){endpoint_told(url)}")
    key = f"hbseg-doctor-{uuid.uuid4().hex}"
    try:
        for what, look in (("write", _write), ("conditional write", _conditional)):
            yield from guarded(f"{name}: {what}", look, name, store, key, denied=failed)
    finally:
        for written in (key, f"{key}-once"):
            _remove(store, written)


def _write(name: str, store: Store, key: str) -> Iterator[Check]:
    name = f"{name}: write"
    store.put(key, b"1")
    if store.get(key) == b"1":
        yield ok(name, "an object was written, read and is removed")
    else:
        yield failed(name, f"{store.url} gave back something else than was written")


def _conditional(name: str, store: Store, key: str) -> Iterator[Check]:
    """Whether the server keeps the conditions by which runs and attempts are claimed."""
    name, once = f"{name}: conditional write", f"{key}-once"
    first, second = store.put_if_absent(once, b"1"), store.put_if_absent(once, b"2")
    content, tag = store.get_tagged(once)
    fresh, stale = store.put_if_match(once, b"3", tag), store.put_if_match(once, b"4", tag)
    advice = "use a server that keeps conditional writes, or two submits may take one run"
    if not first or second or content != b"1":
        yield failed(name, f"{store.url} does not keep If-None-Match", advice)
    elif stale or not fresh:
        yield failed(name, f"{store.url} does not keep If-Match", advice)
    else:
        yield ok(name, "If-None-Match and If-Match are kept")


def _remove(store: Store, key: str) -> None:
    with suppress(HbsegError):  # where nothing can be deleted, nothing could be written
        store.delete(key)


def endpoint_told(url: str) -> str:
    """Return ` at URL` of the S3 server, for a message; nothing for a folder."""
    return f" at {endpoint()}" if url.startswith("s3://") else ""


def endpoint() -> str:
    """Return the URL of the S3 server as boto3 finds it here. Raises DeniedError."""
    from hbseg.storage.s3_connection import s3_client

    return str(s3_client().meta.endpoint_url)


def _s3_clock(url: str) -> Iterator[Check]:
    date = s3_date(url.removeprefix("s3://").partition("/")[0])
    if date is None:
        yield unknown("S3 clock", "the server does not tell its time")
    else:
        yield _skew(abs(date - datetime.now(UTC)))


def _skew(skew: timedelta) -> Check:
    text = f"the clocks of S3 and of this machine differ by {skew.total_seconds():.0f} s"
    if skew > REFUSED_SKEW:
        return failed("S3 clock", f"{text}: it refuses all requests", "set the clock by NTP")
    if skew > MAX_SKEW:
        return warning("S3 clock", text, "set the clock by NTP; S3 refuses from 15 minutes on")
    return ok("S3 clock", "that of S3 agrees with this machine's")


def s3_date(bucket: str, head: Callable[..., Any] | None = None) -> datetime | None:
    """Return the time by the S3 server's clock; a refusal tells it, too."""
    from botocore.exceptions import BotoCoreError, ClientError

    from hbseg.storage.s3_connection import s3_client

    try:
        answer = (head or s3_client().head_bucket)(Bucket=bucket)
    except ClientError as error:
        answer = error.response
    except BotoCoreError:
        return None
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):
        return None
