"""What the tests of a cluster stand on: its pods' image and packages, and S3 for both sides."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.cluster.cluster import TestCluster

S3_SECRET = "hbseg-s3"
"""The Secret of every namespace with the keys of the tests' S3 server."""
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""What is in it; the last one where S3 wants it."""


class Turn(Protocol):
    """Makes a context in which one has the cluster, alone or together with others."""

    def __call__(self, *, alone: bool) -> AbstractContextManager[None]:
        """Return it; it is entered when the cluster is free for that."""


class S3Server(Protocol):
    """An S3 server whose buckets tests make and remove."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables with which boto3 finds it from this machine."""

    def create_bucket(self, name: str) -> None:
        """Make a bucket."""

    def delete_bucket(self, name: str) -> None:
        """Remove a bucket with all that is in it."""


@dataclass(frozen=True)
class Ground:
    """A cluster, with what its pods are made of and how they reach the tests' S3 server."""

    cluster: TestCluster
    s3: S3Server
    profile: Mapping[str, Any]
    """hbseg's cluster profile, as every team has it."""
    turn: Turn
    folders: Mapping[str, str] = field(default_factory=dict)
    """Folders of the node that every namespace has a read-only claim of, by the claims' names."""

    @property
    def keys(self) -> dict[str, str]:
        """The content of `S3_SECRET`."""
        return {name: self.s3.environment[name] for name in KEYS if name in self.s3.environment}


def profile(s3: S3Server, **own: Any) -> dict[str, Any]:
    """Return the profile of small pods with no GPU; `own` are the values of this ground."""
    return {
        "credentials_secret": S3_SECRET,
        "s3_endpoint": s3.environment["AWS_ENDPOINT_URL"],
        "s3_region": s3.environment["AWS_REGION"],
        "gpus_per_process": 0,
        "cpu_per_process": "100m",
        "memory_per_process": "2Gi",
        "shared_memory": "64Mi",
        "scratch": "1Gi",
        "termination_grace": 30,
        "environment": {},
        "volumes": [],
        **own,
    }
