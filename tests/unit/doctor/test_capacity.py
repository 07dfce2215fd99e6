from __future__ import annotations

import pytest

from hbseg.config.pod_profile import Toleration
from hbseg.doctor import capacity
from hbseg.doctor.check import Status
from hbseg.doctor.subject import Subject, pod_of
from tests.unit.doctor.fake_cluster import ROOM, FakeCluster, node, one, subject


def quota_of(cluster: FakeCluster, hard: dict[str, str], used: dict[str, str]) -> None:
    cluster.put("resourcequotas", "team", status={"hard": hard, "used": used})


@pytest.mark.parametrize(
    ("hard", "used", "status", "words"),
    [
        ({"requests.nvidia.com/gpu": "8"}, {}, Status.OK, "requests.nvidia.com/gpu 0/8"),
        (
            {"requests.nvidia.com/gpu": "8"},
            {"requests.nvidia.com/gpu": "2"},
            Status.WARNING,
            "6 of requests.nvidia.com/gpu, needed are 8",
        ),
        ({"memory": "100Gi"}, {}, Status.FAILED, "100.0Gi of memory, needed are 136.0Gi"),
        ({"pods": "1"}, {}, Status.FAILED, "1 of pods, needed are 2"),
        ({"services": "0", "cpu": "1e3"}, {}, Status.OK, "services 0/0"),
    ],
)
def test_a_quota_is_compared_with_the_training(
    cluster: FakeCluster,
    hard: dict[str, str],
    used: dict[str, str],
    status: Status,
    words: str,
) -> None:
    quota_of(cluster, hard, used)

    check = one(capacity.quota, subject(cluster, nodes=2, processes=4))

    assert check.status == status
    assert words in check.message


@pytest.mark.parametrize(
    ("limit", "status", "fix"),
    [
        ("limits.cpu", Status.FAILED, "set cluster.limits.cpu"),
        ("limits.ephemeral-storage", Status.WARNING, "set cluster.limits.ephemeral_storage"),
        ("limits.example.com/x", Status.WARNING, "ask for a quota without limits.example.com/x"),
    ],
)
def test_a_quota_on_a_limit_that_our_pods_do_not_have(
    cluster: FakeCluster, limit: str, status: Status, fix: str
) -> None:
    quota_of(cluster, {limit: "999", "pods": "1"}, {})

    without, room = capacity.quota(subject(cluster, nodes=2))

    assert (without.status, without.fix) == (status, fix)
    assert f"team counts {limit}" in without.message
    assert (room.status, room.message) == (Status.FAILED, "team allows 1 of pods, needed are 2")


def test_limits_that_our_pods_have_are_compared(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota_of(cluster, {"limits.cpu": "8", "limits.memory": "999Gi"}, {})
    of = subject(cluster, nodes=2)
    training = of.training("run")
    template, _ = pod_of(training)
    template["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "6"
    monkeypatch.setattr(Subject, "training", lambda self, run: training)

    check = one(capacity.quota, of)

    assert check.message == "team allows 8 of limits.cpu, needed are 12"


def test_no_quota_and_one_for_some_pods_only(cluster: FakeCluster) -> None:
    assert one(capacity.quota, subject(cluster)).status == Status.OK
    cluster.put("resourcequotas", "spot", spec={"scopes": ["BestEffort"]})
    assert one(capacity.quota, subject(cluster)).status == Status.UNKNOWN


def test_nodes_hold_the_training(cluster: FakeCluster) -> None:
    node(cluster, "a", ROOM)
    node(cluster, "b", ROOM)

    check = one(capacity.nodes, subject(cluster, nodes=2, processes=4))

    assert check.status == Status.OK
    assert "2 fit by labels and taints, the largest with 4 of nvidia.com/gpu" in check.message


def test_too_few_nodes_and_too_small_ones(cluster: FakeCluster) -> None:
    node(cluster, "a", ROOM)

    few = one(capacity.nodes, subject(cluster, nodes=3, processes=4))
    small = one(capacity.nodes, subject(cluster, processes=8))

    assert (few.status, few.message) == (
        Status.FAILED,
        "room for 1 of the 3 pods, if nothing else runs",
    )
    assert small.status == Status.FAILED
    assert "4 of nvidia.com/gpu where a pod asks for 8" in small.message


def test_a_cluster_without_gpus_asks_for_the_device_plugin(cluster: FakeCluster) -> None:
    node(cluster, "a", {name: amount for name, amount in ROOM.items() if "gpu" not in name})

    check = one(capacity.nodes, subject(cluster))

    assert check.status == Status.FAILED
    assert "device plugin" in check.fix
    assert one(capacity.nodes, subject(cluster, gpus_per_process=0)).status == Status.OK


def test_only_nodes_that_take_our_pods_count(cluster: FakeCluster) -> None:
    spot = [{"key": "spot", "value": "true", "effect": "NoSchedule"}]
    node(cluster, "spot", ROOM, taints=spot, labels={"pool": "gpu"})
    node(cluster, "closed", ROOM, unschedulable=True, labels={"pool": "gpu"})

    refused = one(capacity.nodes, subject(cluster))
    tolerated = Toleration(key="spot", value="true")
    fits = subject(cluster, node_selector={"pool": "gpu"}, tolerations=(tolerated,))
    elsewhere = subject(cluster, node_selector={"pool": "x"}, tolerations=(tolerated,))

    assert refused.message == "none fits by labels and taints"
    assert one(capacity.nodes, fits).status == Status.OK
    assert "cluster.node_selector" in one(capacity.nodes, elsewhere).fix
