"""Stores by their URLs."""

from __future__ import annotations

import os
from pathlib import Path

from hbseg.errors import InvalidInput
from hbseg.storage.store import Store, join_key


def open_store(url: str | os.PathLike[str]) -> Store:
    """Return the store behind `url`.

    Raises:
        InvalidInput: the URL is empty, has no bucket, or has a scheme other than s3.
    """
    text = os.fspath(url)
    if text.startswith("s3://"):
        from hbseg.storage.s3 import S3Store

        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        return S3Store.connect(bucket, prefix)
    if not text:
        raise InvalidInput("a storage URL is empty", "give s3://bucket/prefix or a folder")
    scheme, separator, _ = text.partition("://")
    if separator:
        raise InvalidInput(
            f"storage URL {scheme}://... is not supported", "give s3://bucket/prefix or a folder"
        )
    from hbseg.storage.folder import FolderStore

    return FolderStore(Path(text))


def canonical_url(url: str) -> str:
    """Return a store's URL as the store itself says it, without the library of its kind.

    Raises:
        InvalidInput: no store has such a URL.
    """
    if not url.startswith("s3://"):
        return open_store(url).url
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise InvalidInput("an S3 URL has no bucket", "give s3://bucket/prefix")
    return f"s3://{join_key(bucket, prefix.strip('/'))}"
