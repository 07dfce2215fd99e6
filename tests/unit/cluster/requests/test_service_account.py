"""A pod's own connection to its cluster, against a real HTTPS server with its own authority."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hbseg.cluster.requests import service_account
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.resources import POD
from hbseg.errors import DeniedError, UnreachableError, UsageError
from tests.unit.cluster.fake_api import FakeApi
from tests.unit.cluster.pod import Authority, pod_environment, write_service_account


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("server"))


@pytest.fixture
def https(authority: Authority) -> Iterator[FakeApi]:
    with authority.api() as api:
        yield api


@pytest.fixture
def pod(
    https: FakeApi, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of the service account of a pod."""
    folder = write_service_account(tmp_path / "serviceaccount", authority)
    monkeypatch.setattr(service_account, "FOLDER", folder)
    for name, value in pod_environment(https, tmp_path).items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.mark.usefixtures("pod")
def test_a_pod_uses_its_service_account(https: FakeApi) -> None:
    cluster = Cluster.connect()

    assert (cluster.namespace, cluster.server) == ("hands", https.url)
    assert cluster.list(POD) == []
    assert https.requests[0].headers["Authorization"] == "Bearer first"
    assert Cluster.connect(namespace="flag").namespace == "flag"


def test_a_token_that_was_replaced_is_used_at_once(https: FakeApi, pod: Path) -> None:
    cluster = Cluster.connect()
    cluster.list(POD)
    new = pod / "token.new"
    new.write_text("second")
    new.rename(pod / "token")
    cluster.list(POD)

    assert [r.headers["Authorization"] for r in https.requests] == [
        "Bearer first",
        "Bearer second",
    ]


def test_a_server_of_another_authority_gets_no_request(
    https: FakeApi, pod: Path, tmp_path: Path
) -> None:
    (pod / "ca.crt").write_bytes(Authority.make(tmp_path).certificate.read_bytes())
    cluster = Cluster.connect().with_retry_timeout(0)

    with pytest.raises(UnreachableError, match=r"no safe connection .* certificate verify failed"):
        cluster.list(POD)
    assert https.requests == []


@pytest.mark.usefixtures("pod")
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_pod_talks_to_its_cluster_without_the_proxy(
    https: FakeApi, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:1")

    Cluster.connect().with_retry_timeout(0).list(POD)
    assert len(https.requests) == 1


@pytest.mark.usefixtures("pod")
def test_a_context_is_refused_in_a_pod() -> None:
    with pytest.raises(UsageError, match="--context blue: a pod has no contexts"):
        Cluster.connect(context="blue")


@pytest.mark.parametrize("name", ["token", "ca.crt"])
def test_a_pod_without_token_or_authority_is_told_what_to_set(pod: Path, name: str) -> None:
    (pod / name).unlink()

    with pytest.raises(DeniedError, match="set automountServiceAccountToken: true") as raised:
        Cluster.connect()
    assert "\n" not in str(raised.value)


def test_an_authority_that_is_no_certificate_is_refused(pod: Path) -> None:
    (pod / "ca.crt").write_text("nonsense")

    with pytest.raises(DeniedError, match=r"service account in .* cannot be used"):
        Cluster.connect()


def test_a_pod_without_the_namespace_file_takes_the_default(pod: Path) -> None:
    (pod / "namespace").unlink()

    assert Cluster.connect().namespace == "default"


@pytest.mark.usefixtures("pod")
def test_an_ipv6_address_of_the_server_is_bracketed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")

    assert Cluster.connect().server == "https://[fd00::1]:443"
