"""The ground on a cluster that a person names by environment variables (docs/testing.md)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import yaml

from hbseg.config.settings import SettingsFile
from hbseg.errors import SpecError
from tests.cluster.cluster import TestCluster
from tests.cluster.ground import KEYS, Ground, profile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3ServiceResource

KUBECONFIG = "HBSEG_TEST_KUBECONFIG"
"""A file with which kubectl reaches the cluster."""
IMAGE = "HBSEG_TEST_IMAGE"
"""The image of `tests/cluster/Dockerfile`, as the cluster's nodes pull it."""
CONTROL_IMAGE = "HBSEG_TEST_CONTROL_IMAGE"
"""The control image, the same way; may be left out: the tests' image has all that it has."""
S3_ENDPOINT = "HBSEG_TEST_S3_ENDPOINT"
"""URL of an S3 server, for this machine and for pods."""
PROFILE = "HBSEG_TEST_PROFILE"
"""A YAML file with further keys of hbseg's cluster profile; may be left out."""
NEEDED = (IMAGE, S3_ENDPOINT, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")

_NO_LOCATION = "us-east-1"
"""The region in which S3 wants a bucket to be made without a location."""


class UnusableError(Exception):
    """Why the named cluster cannot be used; one line for people."""


@dataclass(frozen=True)
class NamedS3:
    """The S3 server that `HBSEG_TEST_S3_ENDPOINT` names."""

    environment: Mapping[str, str]

    def create_bucket(self, name: str) -> None:
        """Make a bucket."""
        bucket, region = self._s3().Bucket(name), self.environment["AWS_REGION"]
        if region == _NO_LOCATION:
            bucket.create()
        else:
            bucket.create(CreateBucketConfiguration={"LocationConstraint": region})  # type: ignore[typeddict-item]

    def delete_bucket(self, name: str) -> None:
        """Remove a bucket with all that is in it."""
        bucket = self._s3().Bucket(name)
        bucket.objects.all().delete()
        bucket.delete()

    def _s3(self) -> S3ServiceResource:
        return boto3.resource(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name=self.environment["AWS_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=self.environment.get("AWS_SESSION_TOKEN"),
        )


def foreign_ground(environment: Mapping[str, str]) -> Ground | None:
    """Return the ground on the cluster that the variables name; none where they name none.

    Raises:
        UnusableError: a variable, a file or kubectl is missing, or the profile is not valid.
    """
    if not environment.get(KUBECONFIG):
        return None
    missing = [name for name in NEEDED if not environment.get(name)]
    if missing:
        raise UnusableError(f"{KUBECONFIG} names a cluster, which needs {', '.join(missing)} too")
    s3 = NamedS3(_s3_environment(environment))
    images = {
        "image": environment[IMAGE],
        "control_image": environment.get(CONTROL_IMAGE) or environment[IMAGE],
    }
    own = profile(s3, **(images | _further_profile(environment)))
    return Ground(_cluster(environment), s3, own, _together)


def _together(*, alone: bool) -> AbstractContextManager[None]:
    """Return a turn that always comes: what has the cluster alone is not run there."""
    return nullcontext()


def _s3_environment(environment: Mapping[str, str]) -> dict[str, str]:
    given = {name: environment[name] for name in (*KEYS, "AWS_REGION") if environment.get(name)}
    return {"AWS_ENDPOINT_URL": environment[S3_ENDPOINT], **given}


def _cluster(environment: Mapping[str, str]) -> TestCluster:
    path = Path(environment[KUBECONFIG]).absolute()
    if not path.is_file():
        raise UnusableError(f"{KUBECONFIG}: there is no file {path}")
    kubectl = shutil.which("kubectl", path=environment.get("PATH"))
    if kubectl is None:
        raise UnusableError(f"the cluster of {KUBECONFIG} needs kubectl on your PATH")
    return TestCluster(path, kubectl)


def _further_profile(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys of the file, which hbseg itself would take below `cluster:`."""
    name = environment.get(PROFILE)
    if not name:
        return {}
    try:
        keys = yaml.safe_load(Path(name).read_text()) or {}
        SettingsFile.from_mapping({"cluster": keys}, source=name)
    except OSError as error:
        raise UnusableError(f"{PROFILE}: {name} cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise UnusableError(f"{PROFILE}: {name}: {' '.join(str(error).split())}") from None
    except SpecError as error:
        raise UnusableError(f"{PROFILE}: {error}") from None
    return dict(keys)
