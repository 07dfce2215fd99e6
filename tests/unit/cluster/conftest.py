import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3

from hbseg.cluster.backend import KubernetesBackend
from hbseg.cluster.observe.observation import Observation
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.transport import Transport
from hbseg.runs.run import Run
from hbseg.storage.opening import open_store
from tests.unit.cluster.fake_api import FakeApi

CAPTURED = Path(__file__).parent / "captured"
DATA = "s3://team/data"
Connect = Callable[..., Cluster]


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as server:
        yield server


def connect(
    url: str, *, retry_timeout: float = 2.0, token: str = "token", namespace: str = "team"
) -> Cluster:
    pool = urllib3.PoolManager(maxsize=8)
    headers = {"Authorization": f"Bearer {token}"}
    return Cluster(Transport(pool, url, lambda: headers, retry_timeout=retry_timeout), namespace)


@pytest.fixture
def cluster(api: FakeApi) -> Cluster:
    return connect(api.url)


@pytest.fixture
def backend(cluster: Cluster) -> KubernetesBackend:
    return KubernetesBackend(cluster)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    # manifests refuse folders of this machine, which stand for a bucket here
    monkeypatch.setattr("hbseg.cluster.job_lifecycle.check_storage", lambda *_: None)
    run = Run(open_store(tmp_path / "runs"), "main")
    run.claim(data=DATA, namespace="team")
    return run


def captured(name: str, **changes: Any) -> Observation:
    """Return what a real cluster had of a job once (Kubernetes 1.36, training operator 1.9)."""
    content = json.loads((CAPTURED / f"{name}.json").read_text())
    seen: dict[str, Any] = {
        "job": content["job"],
        "pods": content["pods"],
        "now": datetime.fromisoformat(content["now"]),
        "events": content["events"],
    }
    return Observation(**{**seen, **changes})
