from __future__ import annotations

from datetime import timedelta

import pytest

from hbseg import __version__
from hbseg.doctor import server
from hbseg.doctor.check import Status
from tests.unit.doctor.fake_cluster import FakeCluster, one, subject


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("v1.36.3", Status.OK),
        ("v1.31.0-eks-1", Status.OK),
        ("v1.30.9", Status.WARNING),
        ("v1.28.1", Status.FAILED),
        ("odd", Status.UNKNOWN),
    ],
)
def test_the_servers_age_is_judged(cluster: FakeCluster, told: str, status: Status) -> None:
    cluster.git_version = told

    check = one(server.api, subject(cluster))

    assert check.status == status
    assert told in check.message


def test_a_clock_that_is_off_is_told_with_its_direction(cluster: FakeCluster) -> None:
    assert one(server.clock, subject(cluster)).status == Status.OK
    cluster.ahead = timedelta(seconds=-300)

    check = one(server.clock, subject(cluster))

    assert check.status == Status.WARNING
    assert "300 s behind this machine's" in check.message


def test_the_charts_version_is_compared(cluster: FakeCluster) -> None:
    assert one(server.version, subject(cluster)).status == Status.OK
    for label, status in (
        ({}, Status.UNKNOWN),
        ({server.VERSION_LABEL: __version__}, Status.OK),
        ({server.VERSION_LABEL: "9.9.9"}, Status.WARNING),
    ):
        cluster.put("configmaps", server.PROFILE, metadata={"labels": label})
        assert one(server.version, subject(cluster)).status == status


def test_a_missing_namespace_says_how_to_make_it(cluster: FakeCluster) -> None:
    check = one(server.namespace, subject(cluster))

    assert check.status == Status.FAILED
    assert check.fix.endswith("kubectl create namespace team")


def test_a_namespace_tells_its_pod_security(cluster: FakeCluster) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.put("namespaces", "team", metadata={"labels": labels})
    assert "it enforces restricted" in one(server.namespace, subject(cluster)).message

    cluster.put("namespaces", "team", status={"phase": "Terminating"})
    assert one(server.namespace, subject(cluster)).status == Status.FAILED
