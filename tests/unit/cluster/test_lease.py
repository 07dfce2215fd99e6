"""The Lease of a run, where the answers of the API server get lost."""

import threading
from typing import Any

import pytest

from hbseg.cluster.lease import held
from hbseg.cluster.requests.client import Cluster
from hbseg.errors import ConflictError
from tests.unit.cluster.fake_api import FakeApi

NAME = "hbseg-run-main"


def losing_an_answer(monkeypatch: pytest.MonkeyPatch, verb: str) -> threading.Semaphore:
    """Have the first answer to `verb` lost: the client asks again, and finds it done already.

    The semaphore counts the calls.
    """
    original = getattr(Cluster, verb)
    calls, lost = threading.Semaphore(0), threading.Event()

    def call(self: Cluster, *given: Any, **more: Any) -> Any:
        answer = original(self, *given, **more)
        calls.release()
        if lost.is_set():
            return answer
        lost.set()
        raise ConflictError("the object has been modified")

    monkeypatch.setattr(Cluster, verb, call)
    return calls


def test_a_lease_that_was_taken_without_an_answer_is_ours(
    api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing_an_answer(monkeypatch, "create")
    with held(cluster, "main"):
        assert ("leases", NAME) in api.objects


def test_a_lease_that_was_taken_over_without_an_answer_is_ours(
    api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put("leases", {"metadata": {"name": NAME}, "spec": {}})
    losing_an_answer(monkeypatch, "patch")
    with held(cluster, "main"):
        assert api.objects["leases", NAME]["spec"]["holderIdentity"]


def test_a_renewal_without_an_answer_does_not_lose_the_lease(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewals = losing_an_answer(monkeypatch, "patch")
    with held(cluster, "main", renewal=0.01):
        for _ in range(3):
            assert renewals.acquire(timeout=20)


def test_a_lease_that_another_has_taken_is_told_when_asked_and_at_the_end(
    api: FakeApi, cluster: Cluster
) -> None:
    holding = held(cluster, "main", renewal=0.01)
    check = holding.__enter__()
    check()
    lease = api.objects["leases", NAME]
    api.put("leases", {**lease, "spec": {**lease["spec"], "holderIdentity": "somebody"}})
    (renewing,) = (thread for thread in threading.enumerate() if thread.name == "lease")
    renewing.join(20)

    with pytest.raises(ConflictError, match="another pipeline took over run main"):
        check()
    with pytest.raises(ConflictError, match="another pipeline took over run main"):
        holding.__exit__(None, None, None)
    assert ("leases", NAME) in api.objects
