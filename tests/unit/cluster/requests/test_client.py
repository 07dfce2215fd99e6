"""The client against a fake API server: what it sends, what it bears, what it raises."""

import json
import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3

from hbseg.cluster.requests import transport
from hbseg.cluster.requests.api_errors import WatchExpired
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.resources import CONFIG_MAP, JOB, NODE, POD, PYTORCH_JOB
from hbseg.cluster.requests.transport import Transport
from hbseg.errors import (
    ConflictError,
    DeniedError,
    HbsegError,
    InvalidInput,
    NotFoundError,
    UnreachableError,
    UsageError,
)
from tests.unit.cluster.conftest import connect
from tests.unit.cluster.fake_api import FakeApi, Reply, status

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}}


def test_objects_are_created_read_patched_and_deleted(api: FakeApi, cluster: Cluster) -> None:
    made = cluster.create(CONFIG_MAP, MAP)
    assert cluster.get(CONFIG_MAP, "a") == made
    assert cluster.patch(CONFIG_MAP, "a", {"data": {"y": "2", "x": None}})["data"] == {"y": "2"}
    with pytest.raises(ConflictError):
        cluster.create(CONFIG_MAP, MAP)
    with pytest.raises(ConflictError):
        cluster.delete(CONFIG_MAP, "a", uid="another")
    assert cluster.delete(CONFIG_MAP, "a", uid=made["metadata"]["uid"])
    assert not cluster.delete(CONFIG_MAP, "a")
    assert cluster.find(CONFIG_MAP, "a") is None
    request = api.requests[0]
    assert (request.method, request.path) == ("POST", "/api/v1/namespaces/team/configmaps")
    assert request.headers["Authorization"] == "Bearer token"
    assert NODE.path("team", "n") == "/api/v1/nodes/n"


def test_a_dry_run_makes_nothing(api: FakeApi, cluster: Cluster) -> None:
    cluster.create(CONFIG_MAP, MAP, dry_run=True)

    assert api.requests[0].query["dryRun"] == "All"
    assert not api.objects


def test_a_long_listing_comes_in_pages(
    api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hbseg.cluster.requests.client.PAGE", 3)
    for number in range(8):
        api.put("pods", {"metadata": {"name": f"p{number}", "labels": {"run": "main"}}})
    api.put("pods", {"metadata": {"name": "q", "labels": {"run": "other"}}})

    found = cluster.list(POD, labels="run=main")

    assert [item["metadata"]["name"] for item in found] == [f"p{number}" for number in range(8)]
    assert {item["kind"] for item in found} == {"Pod"}
    assert len(api.requests) == 3


def test_a_listing_whose_rest_is_gone_begins_again(api: FakeApi, cluster: Cluster) -> None:
    first = {"metadata": {"continue": "x"}, "items": [{"metadata": {"name": "old"}}]}
    api.plan("GET", "pods", Reply(body=first), Reply(410, status(410, "too old")))
    api.put("pods", {"metadata": {"name": "new"}})

    assert [item["metadata"]["name"] for item in cluster.list(POD)] == ["new"]


@pytest.mark.parametrize(
    ("code", "message", "kind", "told"),
    [
        (401, "Unauthorized", DeniedError, "token expired or not accepted; log in again"),
        (
            403,
            'jobs.batch is forbidden: User "u" cannot create resource',
            DeniedError,
            "not allowed to create jobs.batch j in namespace team; run: hbseg doctor",
        ),
        (
            403,
            'jobs.batch "j" is forbidden: exceeded quota: q, requested: count/jobs.batch=1',
            InvalidInput,
            "exceeded quota: q",
        ),
        (404, 'namespaces "team" not found', NotFoundError, "no namespace team in the cluster"),
        (409, "already exists", ConflictError, "already exists"),
        (
            400,
            'admission webhook "v.example" denied the request: spec is\nbad',
            InvalidInput,
            r"refuses jobs.batch j in namespace team: spec is bad \(says v.example\)",
        ),
        (422, "Job is invalid: spec.x: Required value", InvalidInput, "spec.x: Required value"),
    ],
)
def test_a_refusal_is_one_of_our_errors(
    api: FakeApi, cluster: Cluster, code: int, message: str, kind: type[HbsegError], told: str
) -> None:
    details = {"kind": "namespaces", "name": "team"} if "namespaces" in message else {"name": "j"}
    api.plan("POST", "jobs", Reply(code, status(code, message, **details)))

    with pytest.raises(kind, match=told) as raised:
        cluster.create(JOB, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}})

    assert "\n" not in str(raised.value)
    assert len(api.requests) == 1


def test_a_missing_operator_is_told_apart_from_a_missing_job(
    api: FakeApi, cluster: Cluster
) -> None:
    with pytest.raises(NotFoundError, match=r"no pytorchjobs\.kubeflow\.org x in namespace team"):
        cluster.get(PYTORCH_JOB, "x")
    api.plan("GET", "pytorchjobs", *[Reply(404, b"404 page not found\n")] * 2)
    for look in (lambda: cluster.list(PYTORCH_JOB), lambda: cluster.get(PYTORCH_JOB, "x")):
        with pytest.raises(
            UnreachableError, match="the Kubeflow training operator is not installed"
        ):
            look()


def test_a_webhook_that_does_not_answer_is_named(api: FakeApi) -> None:
    message = (
        'Internal error occurred: failed calling webhook "validator.pytorchjob.training-operator'
        '.kubeflow.org": failed to call webhook: Post "https://x": dial tcp: connection refused'
    )
    api.plan("POST", "pytorchjobs", *[Reply(500, status(500, message))] * 9)

    with pytest.raises(UnreachableError, match="the training operator's webhook does not answer"):
        connect(api.url, retry_timeout=0.1).create(
            PYTORCH_JOB,
            {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": {"name": "j"}},
        )


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(
    api: FakeApi, cluster: Cluster, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.01)
    api.put("configmaps", {"metadata": {"name": "a"}})
    trouble = Reply(code, status(code, "later"), headers={"Retry-After": "0"})
    api.plan("GET", "configmaps", trouble, Reply(cut=True), trouble)

    assert cluster.get(CONFIG_MAP, "a")["metadata"]["name"] == "a"
    assert len(api.requests) == 4


def test_what_does_not_pass_ends_with_the_patience(api: FakeApi) -> None:
    api.plan("GET", "configmaps", *[Reply(503, status(503, "starting"))] * 50)

    with pytest.raises(UnreachableError, match=r"failed to get .* \(status 503\): starting"):
        connect(api.url, retry_timeout=0.5).get(CONFIG_MAP, "a")
    asked_to_wait = Reply(429, status(429, "slow down"), headers={"Retry-After": "600"})
    api.plan("GET", "pods", asked_to_wait)
    with pytest.raises(UnreachableError, match="slow down"):
        connect(api.url).list(POD)


def answer_once(data: bytes) -> str:
    """Return the URL of a server that sends these bytes to whoever asks, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\n\xff\xfe\x00",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_no_foreign_error_comes_through(data: bytes) -> None:
    cluster = connect(answer_once(data), retry_timeout=0.0)
    for use in (
        lambda: cluster.get(POD, "a"),
        lambda: list(cluster.watch(POD, "1")),
        lambda: list(cluster.pod_log("a", container="c")),
    ):
        with suppress(HbsegError):
            use()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "http://nowhere.invalid:80",
        "https://127.0.0.1:1",
        "http://127.0.0.1:99999",
        "http://[::1",
    ],
)
def test_a_server_that_is_not_there_is_unreachable(url: str) -> None:
    with pytest.raises(UnreachableError):
        connect(url, retry_timeout=0.0).get(POD, "a")


def test_tls_with_a_server_that_speaks_none_is_told(api: FakeApi) -> None:
    with pytest.raises(UnreachableError, match="no safe connection to the cluster"):
        connect(api.url.replace("http:", "https:"), retry_timeout=0.0).get(POD, "a")


def test_credentials_that_cannot_be_refreshed_are_refused(api: FakeApi) -> None:
    def broken() -> dict[str, str]:
        raise RuntimeError("plugin\nmissing")

    cluster = Cluster(Transport(urllib3.PoolManager(), api.url, broken), "team")
    with pytest.raises(DeniedError, match="cannot be refreshed: plugin missing; log in again"):
        cluster.get(POD, "a")


def test_a_watch_yields_changes_and_a_version_that_is_too_old_is_told(
    api: FakeApi, cluster: Cluster
) -> None:
    change = {"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "7"}}}
    line = json.dumps(change).encode() + b"\n"
    gone = {"type": "ERROR", "object": status(410, "too old resource version")}
    api.plan(
        "WATCH", "pods", Reply(pieces=(line[:20], line[20:], json.dumps(gone).encode() + b"\n"))
    )

    changes = cluster.watch(POD, "1")
    assert next(iter(changes)).item["metadata"]["name"] == "a"
    with pytest.raises(WatchExpired):
        list(changes)
    assert api.requests[0].query["allowWatchBookmarks"] == "true"


def test_the_clock_is_the_servers() -> None:
    body = b'{"gitVersion": "v1.36.3"}'
    head = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2060 00:00:00 GMT\r\nContent-Length: "
    cluster = connect(answer_once(f"{head}{len(body)}\r\n\r\n".encode() + body))

    assert cluster.version()["gitVersion"] == "v1.36.3"
    assert (cluster.now().year, cluster.now().month) == (2060, 1)


def test_a_view_made_before_the_first_answer_has_the_servers_clock(
    api: FakeApi, cluster: Cluster
) -> None:
    api.seconds_ahead = 3600.0
    view = cluster.with_retry_timeout(300.0)

    cluster.list(POD)
    assert 3500 < (view.now() - datetime.now(UTC)).total_seconds() < 3700


def test_an_answer_to_a_view_sets_the_clock_of_its_cluster(api: FakeApi, cluster: Cluster) -> None:
    api.seconds_ahead = 3600.0

    cluster.with_retry_timeout(300.0).list(POD)
    assert 3500 < (cluster.now() - datetime.now(UTC)).total_seconds() < 3700


def test_a_view_retries_for_a_time_of_its_own(api: FakeApi, cluster: Cluster) -> None:
    api.put("configmaps", {"metadata": {"name": "a"}})
    api.plan("GET", "configmaps", *[Reply(503, status(503, "starting"))] * 2)

    with pytest.raises(UnreachableError, match="starting"):
        cluster.with_retry_timeout(0.0).get(CONFIG_MAP, "a")
    assert cluster.get(CONFIG_MAP, "a")["metadata"]["name"] == "a"


def test_rights_are_asked_for_one_by_one(api: FakeApi, cluster: Cluster) -> None:
    api.plan("POST", "selfsubjectaccessreviews", Reply(body={"status": {"allowed": True}}))

    assert cluster.can("create", JOB)
    assert api.requests[0].body["spec"]["resourceAttributes"] == {
        "verb": "create",
        "group": "batch",
        "resource": "jobs",
        "namespace": "team",
    }


KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "one",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "secret-token"}}],
    "contexts": [
        {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "mine"}},
        {"name": "two", "context": {"cluster": "c", "user": "u"}},
        {"name": "broken", "context": {"cluster": "none", "user": "u"}},
    ],
}


def test_the_kubeconfig_gives_server_namespace_and_token(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads(json.dumps(KUBECONFIG).replace("http://127.0.0.1:1", api.url))
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(path))

    cluster = Cluster.connect()
    assert (cluster.namespace, cluster.server) == ("mine", api.url)
    assert Cluster.connect(namespace="flag").namespace == "flag"
    assert Cluster.connect(context="two").namespace == "default"
    cluster.list(POD)
    assert api.requests[0].headers["Authorization"] == "Bearer secret-token"
    with pytest.raises(
        UsageError, match=r"no context three in .*; contexts there: one, two, broken"
    ):
        Cluster.connect(context="three")
    with pytest.raises(UsageError, match=r"context broken of .* cannot be used"):
        Cluster.connect(context="broken")


@pytest.mark.parametrize("text", ["", "]", "a: b", "[]", "contexts: 3", "\x00"])
def test_a_kubeconfig_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))

    with pytest.raises(UsageError, match="cannot be used") as raised:
        Cluster.connect()
    assert "\n" not in str(raised.value)


def test_a_server_that_is_no_url_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config"
    path.write_text(json.dumps(KUBECONFIG).replace("http://127.0.0.1:1", "nonsense"))
    monkeypatch.setenv("KUBECONFIG", str(path))

    with pytest.raises(UsageError, match="has no URL of a cluster: 'nonsense'"):
        Cluster.connect()


def test_without_a_kubeconfig_and_outside_of_a_pod_there_is_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(UnreachableError, match="set KUBECONFIG, or use --backend local"):
        Cluster.connect()
