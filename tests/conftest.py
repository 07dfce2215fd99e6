"""Fixtures that all tests share: a real S3 server, stores over it and over folders, a raw set."""

import fcntl
import os
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hbseg.data.synth import write_raw_set
from hbseg.local.s3server import EmbeddedS3
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.helm import Helm, helm_program
from tests.small import HANDS, TEST_HANDS

_OTHERS_AWS = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "HBSEG_S3_ADDRESSING",
)


_LONGEST = (
    "chain/test_chain.py",
    "cluster/test_chain.py",
    "cluster/test_training.py",
)


def pytest_configure() -> None:
    """Let programs that tests start be interrupted.

    A shell's background jobs ignore Ctrl-C, and hand that on to every program that they start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no test process waits for another's last file."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(_LONGEST))


@dataclass(frozen=True)
class S3Place:
    """A fresh bucket of the session's server."""

    server: EmbeddedS3
    bucket: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    with EmbeddedS3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Place]:
    """A fresh bucket; the environment leads boto3 to it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    for name in _OTHERS_AWS:
        monkeypatch.delenv(name, raising=False)
    place = S3Place(s3_server, f"test-{uuid.uuid4().hex[:12]}")
    s3_server.create_bucket(place.bucket)
    yield place
    s3_server.delete_bucket(place.bucket)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store, over a folder and over S3 in turn."""
    if request.param == "folder":
        return open_store(tmp_path / "store")
    place: S3Place = request.getfixturevalue("s3")
    return open_store(f"{place.url}/store")


@pytest.fixture(scope="session")
def raw_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw set of synthetic hands at their full size, one for all test processes: to be read."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with (root / "raw.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_raw_set(root / "raw", hands=HANDS, test_hands=TEST_HANDS, seed=5, workers=2)
    return root / "raw"


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(helm_program(), tmp_path_factory.mktemp("helm"))
