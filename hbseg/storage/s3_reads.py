"""A second S3 client, for `get_many` alone: obstore, which is compiled.

Why two: `hbseg list` reads one small object of each run. For 1,000 of them boto3 takes 1.8 s, with
32 threads or with more; addresses that boto3 signs and its urllib3 reads, 1.0 s; obstore, 0.4 s. So
the command keeps its limit of 2 s on a machine half as fast (docs/benchmarks.md).
Why not obstore for all reads: it knows no certificates, proxies and endpoints of an AWS config
file, and says less of what is wrong.

There is one source of keys and settings: boto3's session and client. obstore gets them from there,
certificate authorities and addressing too, and what it does not reach is no error here: boto3 is
asked for that object, with its own retries, and reads it or says why not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hbseg.storage.s3_connection import Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import ClientConfig, S3Store

SECONDS = 20
"""Longest time for one small object; boto3, which is asked next, waits longer."""

_BUCKET = re.compile(r"[A-Za-z0-9._-]+")


class FastReader:
    """Objects of one bucket, by their whole keys. Safe to share between threads."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._objects: S3Store | None = None
        self._answered = False
        config = connection.client.meta.config
        # obstore would go to the endpoint's name as it is, and boto3 changes it for these
        special = ("use_fips_endpoint", "use_dualstack_endpoint")
        if any(getattr(config, name, False) for name in special) or not _BUCKET.fullmatch(bucket):
            return
        self._objects = _opened(connection, bucket)

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes; none where boto3 has to be asked."""
        from obstore.exceptions import BaseError

        objects = self._objects
        if objects is None:
            return None
        try:
            data = objects.get(key).bytes().to_bytes()
        except FileNotFoundError:
            return None  # the object or the bucket: boto3 tells which
        except BaseError:
            # No way to the server, or keys that obstore does not take: the same for all objects.
            # After a first answer it is this object's alone, for example a body that broke off.
            if not self._answered:
                self._objects = None
            return None
        self._answered = True
        return data


def _opened(connection: Connection, bucket: str) -> S3Store | None:
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.exceptions import BaseError

    try:
        if connection.session.get_credentials() is None:
            return None
        return _connected(connection, Boto3CredentialProvider(connection.session), bucket)
    except BotoCoreError:
        return None  # no keys: boto3 fails in the same way, and is told
    except BaseError:
        return None  # a variable AWS_... that boto3 does not read, with a value obstore refuses
    except OSError:
        return None  # the authorities' file is gone: boto3 needs it, too


def _connected(connection: Connection, keys: Boto3CredentialProvider, bucket: str) -> S3Store:
    from obstore.store import S3Store

    client = connection.client
    in_host = _is_in_host(client, bucket)
    endpoint = client.meta.endpoint_url
    if in_host:
        endpoint = endpoint.replace("://", f"://{bucket}.", 1)
    # What is set here comes before the variables AWS_... that obstore reads.
    return S3Store(
        bucket,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        region=client.meta.region_name,
        virtual_hosted_style_request=in_host,
        skip_signature=False,
        credential_provider=keys,
        client_options=_http(connection),
        retry_config={"max_retries": 0},
    )


def _is_in_host(client: S3Client, bucket: str) -> bool:
    """Return whether boto3 puts the bucket's name into the host, and not into the path."""
    address = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "x"})
    return not urlsplit(address).path.endswith(f"/{bucket}/x")


def _http(connection: Connection) -> ClientConfig:
    """Return how requests are sent. Raises OSError: the authorities cannot be read."""
    options: ClientConfig = {
        "allow_http": connection.client.meta.endpoint_url.startswith("http://"),
        "connect_timeout": f"{SECONDS // 4}s",
        "timeout": f"{SECONDS}s",
    }
    if connection.ca_bundle is not None:
        options["root_certificate"] = connection.ca_bundle.read_bytes()
    return options
