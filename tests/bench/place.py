"""Where the runs of a benchmark are in S3, and what leads commands there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from hbseg.local.s3server import EmbeddedS3

BUCKET = "bench"
_OURS = ("AWS_", "HBSEG_", "KUBE")
"""Variables of the person who measures; they must not decide what is measured."""


@dataclass(frozen=True)
class Place:
    """A bucket of a real S3 server on this machine."""

    server: EmbeddedS3
    environment: Mapping[str, str]
    """For commands."""

    @property
    def url(self) -> str:
        """Folder of the runs."""
        return f"s3://{BUCKET}/runs"


@contextmanager
def s3_place(folder: Path) -> Iterator[Place]:
    """Yield a place in a server that ends with it; this process's own clients find it, too."""
    with EmbeddedS3(folder / "s3") as server:
        server.create_bucket(BUCKET)
        others = {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
        environment = {
            **others,
            **server.environment,
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "HBSEG_STATE": str(folder / "state"),
        }
        with mock.patch.dict(os.environ, server.environment):
            yield Place(server, environment)
