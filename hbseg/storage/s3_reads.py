"""A shortcut to many small objects of S3: obstore, whose client is compiled.

boto3 spends about ten times as much CPU on each request, in one interpreter, whatever the number
of threads (docs/benchmarks.md). Yet its settings, retries and errors are the ones that count. So
what the shortcut does not reach is no error here: the caller asks boto3, which reads it (another
region, certificates of one's own) or says why not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Store

SECONDS = 20
"""Longest time for one small object; boto3, which is asked next, waits longer."""

_BUCKET = re.compile(r"[A-Za-z0-9._-]+")


class FastReader:
    """Objects of one bucket, by their whole keys. Safe to share between threads."""

    def __init__(self, client: S3Client, session: Session, bucket: str) -> None:
        self._objects: S3Store | None = None
        config = client.meta.config
        # obstore would go to the endpoint's name as it is, and boto3 changes it for these
        special = ("use_fips_endpoint", "use_dualstack_endpoint")
        if any(getattr(config, name, False) for name in special) or not _BUCKET.fullmatch(bucket):
            return
        try:
            self._objects = _opened(client, session, bucket)
        except Exception:
            # e.g. a variable AWS_... that boto3 does not read, with a value that obstore refuses
            return

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes; none where boto3 has to be asked."""
        objects = self._objects
        if objects is None:
            return None
        try:
            return objects.get(key).bytes().to_bytes()
        except FileNotFoundError:
            return None
        except Exception:
            # Whatever it is, boto3 knows better, and it would be the same for the other keys.
            self._objects = None
            return None


def _opened(client: S3Client, session: Session, bucket: str) -> S3Store:
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    endpoint = client.meta.endpoint_url
    # Whatever is set here comes before the variables AWS_... that obstore reads by itself.
    return S3Store(
        bucket,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        region=client.meta.region_name,
        virtual_hosted_style_request=False,
        skip_signature=False,
        credential_provider=Boto3CredentialProvider(session),
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": f"{SECONDS // 4}s",
            "timeout": f"{SECONDS}s",
        },
        retry_config={"max_retries": 0},
    )
