from __future__ import annotations

import pytest

from hbseg.doctor import operator
from hbseg.doctor.check import Status, guarded
from hbseg.errors import (
    DeniedError,
    InvalidInput,
    UnreachableError,
)
from tests.unit.doctor.fake_cluster import FakeCluster, one, subject


def test_a_cluster_that_does_not_know_pytorchjobs_has_no_operator(cluster: FakeCluster) -> None:
    assert one(operator.crd, subject(cluster)).status == Status.OK
    missing = UnreachableError("the Kubeflow training operator is not installed", "x")
    cluster.refusals = {"list PyTorchJob": missing}

    (check,) = guarded("pytorchjobs", operator.crd, subject(cluster))

    assert (check.status, check.message) == (Status.FAILED, missing.message)


def test_an_operator_is_ready_dead_or_out_of_sight(cluster: FakeCluster) -> None:
    assert one(operator.running, subject(cluster)).status == Status.UNKNOWN
    cluster.put("deployments", "training-operator", metadata={"namespace": "kubeflow"})
    dead = one(operator.running, subject(cluster))
    assert (dead.status, dead.fix) == (
        Status.FAILED,
        "kubectl -n kubeflow describe deployment training-operator",
    )
    cluster.put("deployments", "training-operator", status={"readyReplicas": 1})
    assert one(operator.running, subject(cluster)).status == Status.OK


def test_dry_runs_send_what_would_be_submitted_and_make_nothing(cluster: FakeCluster) -> None:
    of = subject(cluster, nodes=2, processes=4, queue="team-a")

    for look in (operator.training, operator.batch, operator.pod):
        assert one(look, of).status == Status.OK

    assert all(dry_run for _, dry_run in cluster.created)
    training, job, pod = (item for item, _ in cluster.created)
    assert [item["kind"] for item in (training, job, pod)] == ["PyTorchJob", "Job", "Pod"]
    assert training["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] == 2
    assert training["metadata"]["namespace"] == "team"
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "4"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DeniedError("not allowed to create pods"), Status.UNKNOWN),
        (InvalidInput("exceeded quota: team, used: pods=3"), Status.WARNING),
    ],
)
def test_a_pod_that_is_not_let_in_now_may_be_later(
    cluster: FakeCluster, error: Exception, status: Status
) -> None:
    cluster.refusals = {"Pod": error}  # type: ignore[dict-item]

    assert one(operator.pod, subject(cluster)).status == status
