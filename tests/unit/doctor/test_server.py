from __future__ import annotations

from datetime import timedelta

import pytest

from hbseg import __version__
from hbseg.cluster import shared_settings
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
        ({shared_settings.VERSION_LABEL: __version__}, Status.OK),
        ({shared_settings.VERSION_LABEL: "9.9.9"}, Status.WARNING),
    ):
        text = {"hbseg.yaml": "runs: s3://team/runs"}
        cluster.put("configmaps", shared_settings.NAME, metadata={"labels": label}, data=text)
        assert [check.status for check in server.version(subject(cluster))] == [status, Status.OK]


@pytest.mark.parametrize(
    ("version", "data", "message"),
    [
        (__version__, {}, "has no key hbseg.yaml"),
        (__version__, {"hbseg.yaml": "cluster: {que: a}"}, "did you mean queue?"),
        ("9.9.9", {"hbseg.yaml": "cluster: {new: a}"}, "the chart is of hbseg 9.9.9, here is"),
    ],
)
def test_a_chart_with_other_keys_says_so(
    cluster: FakeCluster, version: str, data: dict[str, str], message: str
) -> None:
    labels = {shared_settings.VERSION_LABEL: version}
    cluster.put("configmaps", shared_settings.NAME, metadata={"labels": labels}, data=data)

    *_, profile = server.version(subject(cluster))

    assert profile.status == Status.FAILED
    assert message in profile.message


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
