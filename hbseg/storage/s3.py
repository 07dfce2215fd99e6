"""S3 as object storage, by boto3 (`hbseg.storage.s3_connection` has its settings).

Every request has a time limit and is tried again by botocore's standard mode: exponential back-off
with jitter, limited by a retry quota.

botocore reads the body of a `get`, and of every refusal, outside of its retries, and raises
urllib3's own errors from there. So reads that find their answer broken off are asked for again here
(`S3Store._read`), as often and with the same back-off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from hbseg.errors import (
    BucketMissing,
    ContractError,
    DeniedError,
    HbsegError,
    InvalidInput,
    NotFoundError,
    UnreachableError,
)
from hbseg.storage import s3_connection
from hbseg.storage.files import write_error
from hbseg.storage.s3_connection import Connection
from hbseg.storage.store import Entry, checked_key, join_key, read_many
from hbseg.system.backoff import Backoff

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

Answer = TypeVar("Answer")

BACKOFF_SECONDS = 1.0
"""Longest pause before the second try of a read; it doubles with each try, as botocore's does."""

SINGLE_PUT_BYTES = 1 << 30
"""A single request leaves nothing behind when it is cut; S3 takes up to 5 GiB so."""

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_DENIED = frozenset(
    {
        "AccessDenied",
        "403",
        "Forbidden",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "AuthorizationHeaderMalformed",
    }
)
_SHORT = frozenset({"InvalidRange", "416"})
_CONFLICT = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})


class S3Store:
    """The objects below one prefix of a bucket. Safe to share between threads."""

    def __init__(self, connection: Connection, bucket: str, prefix: str = "") -> None:
        self._connection = connection
        self._client = connection.client
        self._bucket = bucket
        self._prefix = prefix.strip("/")

    @classmethod
    def connect(cls, bucket: str, prefix: str = "") -> Self:
        """Return the store of `s3://bucket/prefix`; no request is made yet.

        Raises:
            InvalidInput: no bucket, or a prefix that is no folder.
            DeniedError: the settings of AWS are not as boto3 wants them.
            UsageError: `HBSEG_S3_ADDRESSING` has no value that we know.
        """
        if not bucket:
            raise InvalidInput("an S3 URL has no bucket", "give s3://bucket/prefix")
        if prefix.strip("/"):
            checked_key(prefix.strip("/"))
        return cls(s3_connection.connect(), bucket, prefix)

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{join_key(self._bucket, self._prefix)}"

    def folder(self, path: str) -> Self:
        """Return the store of a folder below this one."""
        key = checked_key(path.strip("/"))
        return type(self)(self._connection, self._bucket, join_key(self._prefix, key))

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        return self.get_tagged(key)[0]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return a part of an object by one ranged request."""
        if length == 0:
            return b""
        part = f"bytes={start}-{start + length - 1}"

        def ask() -> bytes:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key), Range=part)
            return self._body(answer)

        return self._read(key, ask)

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Return an object's bytes and its ETag."""

        def ask() -> tuple[bytes, str]:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
            return self._body(answer), answer["ETag"]

        return self._read(key, ask)

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Yield many small objects' bytes, by the fast reader where it reaches them."""
        from hbseg.storage.s3_reads import FastReader

        fast_reader = FastReader(self._connection, self._bucket)

        def read(key: str) -> bytes:
            data = fast_reader.get(self._key(key))
            return self.get(key) if data is None else data

        return read_many(read, keys)

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        with self._request(key):
            self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object with If-None-Match."""
        try:
            with self._request(key):
                self._client.put_object(
                    Bucket=self._bucket, Key=self._key(key), Body=data, IfNoneMatch="*"
                )
        except _ConditionFailed:
            return False
        return True

    def put_if_match(self, key: str, data: bytes, tag: str) -> bool:
        """Write an object with If-Match."""
        try:
            with self._request(key):
                self._client.put_object(
                    Bucket=self._bucket, Key=self._key(key), Body=data, IfMatch=tag
                )
        except (_ConditionFailed, NotFoundError):
            return False
        return True

    def upload(self, key: str, path: Path) -> None:
        """Write a local file: one request up to 1 GiB, a multipart upload above."""
        with self._request(key):
            if path.stat().st_size > SINGLE_PUT_BYTES:
                self._client.upload_file(str(path), self._bucket, self._key(key))
                return
            with path.open("rb") as file:
                self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=file)

    def download(self, key: str, path: Path) -> None:
        """Write an object to a local file; boto3 renames it when it is complete.

        boto3 asks again for each part of 8 MiB whose body breaks off, at once.
        """
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(num_download_attempts=s3_connection.ATTEMPTS)

        def ask() -> None:
            self._client.download_file(self._bucket, self._key(key), str(path), Config=config)

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._read(key, ask)
        except OSError as error:
            raise write_error(error, path) from None

    def exists(self, key: str) -> bool:
        """Return whether an object is there."""
        try:
            with self._request(key):
                self._client.head_object(Bucket=self._bucket, Key=self._key(key))
        except NotFoundError as error:
            if isinstance(error, BucketMissing):
                raise
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects whose key starts with `prefix`, page by page.

        S3 lists in key order; a server that lists by folder (SeaweedFS) is sorted here, which
        holds the keys of this one listing in memory.
        """
        found = [
            Entry(self._relative(item["Key"]), item["Size"], item.get("ETag", ""))
            for page in self._pages(self._listing_prefix(prefix))
            for item in page.get("Contents", [])
            if not item["Key"].endswith("/")
        ]
        yield from sorted(found, key=lambda entry: entry.key)

    def list_folders(self, prefix: str = "") -> Iterator[str]:
        """Yield the folders directly below `prefix`."""
        start = self._listing_prefix(f"{prefix.strip('/')}/" if prefix else "")
        names = [
            item["Prefix"].removeprefix(start).rstrip("/")
            for page in self._pages(start, Delimiter="/")
            for item in page.get("CommonPrefixes", [])
        ]
        yield from sorted(names)

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._request(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def create_bucket(self) -> None:
        """Make the bucket if it is not there."""
        with self._request(""), suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
            self._client.create_bucket(Bucket=self._bucket)

    def _key(self, key: str) -> str:
        return join_key(self._prefix, checked_key(key))

    def _listing_prefix(self, prefix: str) -> str:
        return f"{self._prefix}/{prefix}" if self._prefix else prefix

    def _relative(self, key: str) -> str:
        return key.removeprefix(f"{self._prefix}/") if self._prefix else key

    def _pages(self, prefix: str, **options: Any) -> Iterator[ListObjectsV2OutputTypeDef]:
        """Yield the pages of a listing; one that breaks off is asked for again, not all of them."""
        while True:
            page = self._page(prefix, options)
            yield page
            if not page.get("IsTruncated"):
                return
            following = page.get("NextContinuationToken")
            if following in (None, options.get("ContinuationToken")):
                raise UnreachableError(f"S3 lists bucket {self._bucket} without an end")
            options["ContinuationToken"] = following

    def _page(self, prefix: str, options: Mapping[str, Any]) -> ListObjectsV2OutputTypeDef:
        return self._read(
            "",
            lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **options),
        )

    def _read(self, key: str, ask: Callable[[], Answer]) -> Answer:
        """Return what `ask` reads, which changes nothing; asked again where an answer breaks off.

        A request that botocore has given up is not asked again.
        """
        attempts = s3_connection.ATTEMPTS
        backoff = Backoff(BACKOFF_SECONDS, BACKOFF_SECONDS * 2**attempts, jitter=1.0)
        for _ in range(attempts - 1):
            try:
                with self._request(key):
                    return ask()
            except _AnswerBrokenOff:
                time.sleep(backoff.next_pause())
        with self._request(key):
            return ask()

    def _body(self, answer: Mapping[str, Any]) -> bytes:
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        try:
            body: bytes = answer["Body"].read()
        except (BotoCoreError, HTTPError) as error:
            raise self._broken_off(error) from None
        return body

    @contextmanager
    def _request(self, key: str) -> Iterator[None]:
        """Turn the client's errors into ours; no message carries a key or a token."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            raise self._refusal(error.response["Error"].get("Code", "?"), key) from None
        except (BotoCoreError, Boto3Error) as error:
            raise self._no_answer(error) from None
        except HTTPError as error:
            raise self._broken_off(error) from None

    def _refusal(self, code: str, key: str) -> HbsegError:
        place = f"s3://{join_key(self._bucket, join_key(self._prefix, key))}"
        if code == "NoSuchBucket":
            return BucketMissing(f"no such bucket: {self._bucket}", "create it or correct the URL")
        if code in _MISSING:
            return NotFoundError(f"not found: {place}")
        if code in _SHORT:
            return ContractError(
                f"{place} is shorter than its table says", "run the step that wrote it again"
            )
        if code in _CONFLICT:
            return _ConditionFailed(f"changed by somebody else: {place}")
        if code in _DENIED:
            return DeniedError(
                f"S3 does not allow access to {place} ({code})",
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy",
            )
        return UnreachableError(f"S3 answered {code} for {place}")

    def _no_answer(self, error: Exception) -> HbsegError:
        kind = type(error).__name__
        if kind in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
            return DeniedError(
                "no S3 credentials found",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            )
        if kind in ("ParamValidationError", "InvalidBucketNameError"):
            return InvalidInput(f"not a valid bucket name: {self._bucket!r}")
        if kind == "S3UploadFailedError":
            return self._upload_refusal(str(error))
        if untrusted := s3_connection.distrust(error, self._client.meta.endpoint_url):
            return untrusted
        return UnreachableError(
            f"no answer from S3 for bucket {self._bucket} ({kind})",
            "check AWS_ENDPOINT_URL and that the server is up",
        )

    def _broken_off(self, error: Exception) -> HbsegError:
        return _AnswerBrokenOff(
            f"S3's answer for bucket {self._bucket} broke off ({type(error).__name__})",
            "check the network to AWS_ENDPOINT_URL and try again",
        )

    def _upload_refusal(self, text: str) -> HbsegError:
        # boto3 wraps the answer of an upload into text only: "... An error occurred (CODE) when"
        code = text.partition("An error occurred (")[2].partition(")")[0]
        return self._refusal(code or "no code", "")


class _ConditionFailed(InvalidInput):
    """A conditional write lost."""


class _AnswerBrokenOff(UnreachableError):
    """An answer started, and the connection ended or fell silent before it was whole."""
