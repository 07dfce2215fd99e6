"""Informers over broken connections, versions that are too old, and what we may not see."""

import json
from typing import Any

import pytest

from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.informer import Informer, Watched
from hbseg.cluster.requests.resources import EVENT, POD
from hbseg.errors import DeniedError, UnreachableError
from tests.unit.cluster.conftest import connect
from tests.unit.cluster.fake_api import FakeApi, Reply, status

SECONDS = 20.0


def named(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


def names(informer: Informer) -> set[str]:
    return {item["metadata"]["name"] for item in informer.objects(POD)}


def until(informer: Informer, wanted: set[str]) -> None:
    """Return when the informer has these pods; a state that never comes fails the test."""
    while names(informer) != wanted:
        assert informer.wait(SECONDS), f"never became {wanted}: {names(informer)}"


def watches(api: FakeApi) -> list[str]:
    return [r.query["resourceVersion"] for r in api.requests if r.query.get("watch")]


def test_an_informer_follows_what_is_made_changed_and_deleted(
    api: FakeApi, cluster: Cluster
) -> None:
    api.put("pods", named("a", run="main"))
    rings: list[int] = []
    with Informer(
        cluster, [Watched(POD, labels="run=main")], on_change=lambda: rings.append(1)
    ) as m:
        assert names(m) == {"a"}
        api.put("pods", named("b", run="main"))
        api.put("pods", named("c", run="other"))
        until(m, {"a", "b"})
        api.remove("pods", "a")
        until(m, {"b"})
    assert len(rings) >= 3
    assert len(watches(api)) == 1


def test_a_connection_that_breaks_is_made_again_from_the_last_version(
    api: FakeApi, cluster: Cluster
) -> None:
    made = {"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "100"}}}
    line = json.dumps(made).encode() + b"\n"
    api.plan("WATCH", "pods", Reply(pieces=(line, b'{"type": "ADD'), cut=True), Reply(cut=True))
    with Informer(cluster, [Watched(POD)]) as informer:
        until(informer, {"a"})
        api.put("pods", named("b"))
        until(informer, {"a", "b"})
    assert watches(api)[:3] == ["100", "100", "100"]
    assert sum(r.method == "GET" and not r.query.get("watch") for r in api.requests) == 1


def test_a_version_that_is_too_old_leads_to_another_listing(api: FakeApi, cluster: Cluster) -> None:
    gone = {"type": "ERROR", "object": status(410, "too old resource version")}
    api.put("pods", named("a"))
    api.plan("GET", "pods", Reply(body={"metadata": {"resourceVersion": "1"}, "items": []}))
    api.plan("WATCH", "pods", Reply(pieces=(json.dumps(gone).encode() + b"\n",)))
    api.plan("WATCH", "pods", Reply(410, status(410, "too old")))
    with Informer(cluster, [Watched(POD)]) as informer:
        until(informer, {"a"})


def test_bookmarks_move_the_version_on(api: FakeApi, cluster: Cluster) -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}}
    api.plan("WATCH", "pods", Reply(pieces=(json.dumps(bookmark).encode() + b"\n",)))
    with Informer(cluster, [Watched(POD)]) as informer:
        api.put("pods", named("a"))
        until(informer, {"a"})
    assert watches(api)[1] == "99"


def test_what_we_may_not_see_ends_the_informer_unless_it_is_optional(
    api: FakeApi, cluster: Cluster
) -> None:
    forbidden = [Reply(403, status(403, "forbidden"))] * 2
    api.plan("GET", "events", *forbidden)
    with Informer(cluster, [Watched(EVENT, optional=True)]) as informer:
        assert informer.objects(EVENT) == []
    with Informer(cluster, [Watched(EVENT)]) as informer, pytest.raises(DeniedError):
        informer.objects(EVENT)


def waited(informer: Informer) -> None:
    """Wait until the informer raises; one that never raises fails the test."""
    while informer.wait(SECONDS):
        pass


def test_a_token_that_expires_in_between_is_told(api: FakeApi, cluster: Cluster) -> None:
    api.plan("WATCH", "pods", Reply(401, status(401, "Unauthorized")))
    with Informer(cluster, [Watched(POD)]) as informer, pytest.raises(DeniedError, match="expired"):
        waited(informer)


def test_an_outage_longer_than_the_limit_is_told() -> None:
    with FakeApi() as api:
        informer = Informer(
            connect(api.url, retry_timeout=0.1), [Watched(POD)], outage=0.5
        ).__enter__()
    with pytest.raises(UnreachableError):
        waited(informer)
    informer.__exit__()


def test_a_bug_in_a_watch_is_raised_where_its_news_are_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(Informer, "_list", broken)
    with Informer(cluster, [Watched(POD)]) as informer, pytest.raises(KeyError, match="a bug"):
        informer.wait(SECONDS)
