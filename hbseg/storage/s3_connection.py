"""How S3 is spoken to: boto3's client with our limits and retries, and what gateways need.

Endpoint, region and keys come the way boto3 reads them (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`,
profiles, workload identity), and so do certificate authorities (`AWS_CA_BUNDLE`). Three things
differ from boto3's defaults:

- Checksums. To an endpoint by HTTPS, boto3 sends uploads as `aws-chunked` with a checksum behind
  the body, which several S3 gateways refuse (s3transfer#327). Where an endpoint is set, uploads
  have no such checksum, and reads ask for none, unless `AWS_REQUEST_CHECKSUM_CALCULATION`,
  `AWS_RESPONSE_CHECKSUM_VALIDATION` or the AWS config file say otherwise. The signature then covers
  the SHA-256 of each upload, so a damaged one is still refused.
- Addressing. boto3 has no variable for it: `HBSEG_S3_ADDRESSING` is `auto` (as boto3 decides),
  `path` (https://HOST/BUCKET/KEY) or `virtual` (https://BUCKET.HOST/KEY).
- A certificate that is not trusted is no reason to ask again.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hbseg.errors import DeniedError, UsageError
from hbseg.storage.store import READERS

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.config import Config
    from botocore.loaders import Loader
    from botocore.session import Session as CoreSession
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 5
READ_SECONDS = 60
ATTEMPTS = 6
"""Tries of one request; with back-off the last one starts after about 20 s."""

ADDRESSING: Final = "HBSEG_S3_ADDRESSING"
"""Environment variable: where a bucket's name stands in the address of a request."""
_ADDRESSING: Final = ("auto", "path", "virtual")
_CHECKSUMS: Final = {
    "request_checksum_calculation": "AWS_REQUEST_CHECKSUM_CALCULATION",
    "response_checksum_validation": "AWS_RESPONSE_CHECKSUM_VALIDATION",
}
"""Settings of botocore, and the variables that it reads them from."""
_UNTRUSTED: Final = re.compile(r"certificate verify failed: (.*?)\.? \(_ssl")
_OF_ANOTHER_HOST: Final = re.compile(r"hostname \S+ doesn't match .*|no appropriate subjectAltName")
"""urllib3's words: it compares names itself."""


class Connection(NamedTuple):
    """How S3 is spoken to."""

    client: S3Client
    """boto3's, with our limits and retries."""
    session: Session
    """Where the client has its keys from."""
    ca_bundle: Path | None
    """PEM file of the authorities that certificates are checked against; none: boto3's own."""


def s3_client() -> S3Client:
    """Return a client for all of S3, with our limits and retries.

    Raises:
        DeniedError: settings of AWS are not usable.
        UsageError: `HBSEG_S3_ADDRESSING` has no value that we know.
    """
    return connect().client


def connect() -> Connection:
    """Return a client for all of S3 with its session and authorities; raises as `s3_client`."""
    import boto3
    from botocore.exceptions import BotoCoreError

    # MinIO, SeaweedFS and AWS with an endpoint ignore the region, but boto3 wants one to sign.
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        core = new_session()
        core.get_component("response_parser_factory").set_parser_defaults(
            timestamp_parser=parse_timestamp
        )
        session = boto3.session.Session(botocore_session=core)
        region = region or session.region_name or "us-east-1"
        client = session.client("s3", region_name=region, config=_config(core))
        client.meta.events.register_first("needs-retry.s3", _give_up_on_untrusted)
        secure = client.meta.endpoint_url.startswith("https://")
        return Connection(client, session, _ca_bundle(core) if secure else None)
    except (BotoCoreError, ValueError) as error:
        raise DeniedError(
            f"S3 settings are not usable ({type(error).__name__})",
            "check AWS_PROFILE, AWS_ENDPOINT_URL, AWS_CA_BUNDLE and the AWS config file",
        ) from None


def _config(core: CoreSession) -> Config:
    from botocore.config import Config

    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=READERS,
        **_checksums(core),
        **_addressing(),
    )


def _checksums(core: CoreSession) -> Mapping[str, Any]:
    """Return `when_required` for each of the two settings that nobody sets, with an endpoint."""
    profile = core.get_scoped_config()
    if not _has_endpoint(core, profile):
        return {}
    return {
        name: "when_required"
        for name, variable in _CHECKSUMS.items()
        if not os.environ.get(variable) and name not in profile
    }


def _has_endpoint(core: CoreSession, profile: Mapping[str, Any]) -> bool:
    """Return whether an endpoint of S3 is set in any of the places where botocore looks."""
    if core.get_config_variable("ignore_configured_endpoint_urls"):
        return False
    services = core.full_config.get("services", {}).get(profile.get("services"), {})
    return any(
        (
            os.environ.get("AWS_ENDPOINT_URL_S3"),
            os.environ.get("AWS_ENDPOINT_URL"),
            services.get("s3", {}).get("endpoint_url"),
            profile.get("endpoint_url"),
        )
    )


def _addressing() -> Mapping[str, Any]:
    value = os.environ.get(ADDRESSING) or "auto"
    if value not in _ADDRESSING:
        raise UsageError(f"{ADDRESSING} is {value!r:.40}, expected auto, path or virtual")
    return {} if value == "auto" else {"s3": {"addressing_style": value}}


def _ca_bundle(core: CoreSession) -> Path | None:
    """Return the file that botocore takes authorities from; none: those that it brings."""
    told = {
        "AWS_CA_BUNDLE": os.environ.get("AWS_CA_BUNDLE"),
        "ca_bundle of the AWS config file": core.get_scoped_config().get("ca_bundle"),
        "REQUESTS_CA_BUNDLE": os.environ.get("REQUESTS_CA_BUNDLE"),
    }
    source, bundle = next(((name, value) for name, value in told.items() if value), ("", None))
    if bundle is None:
        return None
    path = Path(bundle).expanduser()
    _check_bundle(source, path)
    return path


@cache  # a bundle with all public authorities takes 24 ms
def _check_bundle(source: str, path: Path) -> None:
    """Check that a file has certificates. Raises DeniedError."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        why = (
            "has no certificate in PEM"
            if isinstance(error, ssl.SSLError)
            else f"cannot be read ({error.strerror})"
        )
        raise DeniedError(
            f"{source} is {path}, which {why}",
            "give a PEM file with the certificates of the authorities to trust",
        ) from None


def distrust(error: Exception, endpoint: str) -> DeniedError | None:
    """Return that the certificate of `endpoint` is not trusted; none where the error is another."""
    if found := _UNTRUSTED.search(str(error)):
        return DeniedError(
            f"the certificate of S3 at {endpoint} is not trusted ({found[1]})",
            "name the PEM file of its authority in AWS_CA_BUNDLE, for pods in cluster.ca_bundle",
        )
    if found := _OF_ANOTHER_HOST.search(str(error)):
        return DeniedError(
            f"the certificate of S3 at {endpoint} is of another host ({found[0]})",
            "correct AWS_ENDPOINT_URL, for pods cluster.s3_endpoint, or the server's certificate",
        )
    return None


def _give_up_on_untrusted(caught_exception: Exception | None = None, **_: Any) -> None:
    """Raise the error of a certificate that is not trusted: botocore would ask 5 more times."""
    if caught_exception is not None and distrust(caught_exception, ""):
        raise caught_exception


def new_session(**options: Any) -> CoreSession:
    """Return a botocore session that shares what botocore knows of AWS with the others.

    A session of its own reads 3.6 MB of JSON for its first client: two thirds of the CPU time of
    every client after a process's first.
    """
    import botocore.session

    session = botocore.session.Session(**options)
    known = _loader(session.get_config_variable("data_path"))
    session.register_component("data_loader", known)
    return session


@cache
def _loader(folders: str | None) -> Loader:
    """Return the reader of botocore's descriptions, which keeps what it has read."""
    from botocore.loaders import create_loader

    return create_loader(folders)


def parse_timestamp(value: Any) -> datetime:
    """Return the time in an answer of AWS.

    botocore's own reader tries every form there is: a tenth of the CPU time of a small read, and
    two thirds of a listing's (docs/benchmarks.md). The forms that S3 uses, HTTP's in headers and
    ISO 8601 in listings, are read here, all others by botocore.

    Raises:
        ValueError: it is none.
    """
    from botocore import utils

    with suppress(ValueError):
        if str(value).endswith("GMT"):
            return parsedate_to_datetime(value)
        if str(value).endswith("Z"):
            return datetime.fromisoformat(value)
    return utils.parse_timestamp(value)
