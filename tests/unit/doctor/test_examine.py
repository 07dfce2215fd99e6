"""The doctor's findings as a whole, against a fake cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from hbseg.config.placement import Placement
from hbseg.config.pod_profile import Volume
from hbseg.config.profile import ClusterProfile
from hbseg.doctor import machine
from hbseg.doctor.check import Check, Status, failed, guarded, unknown
from hbseg.doctor.examine import OF_THE_CLUSTER, examine_cluster, examine_machine
from hbseg.errors import (
    ConflictError,
    DeniedError,
    NotFoundError,
    UnreachableError,
)
from tests.unit.doctor.fake_cluster import ROOM, FakeCluster, node


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def ready(cluster: FakeCluster) -> FakeCluster:
    cluster.put("namespaces", "team")
    cluster.put("serviceaccounts", "hbseg-runner")
    node(cluster, "a", ROOM)
    return cluster


def test_a_sound_cluster_ends_with_0(cluster: FakeCluster, tmp_path: Path) -> None:
    report = examine_cluster(
        lambda: ready(cluster),
        Placement(
            cluster=ClusterProfile(image="team:1", volumes=(Volume(claim="c", path=str(tmp_path)),))
        ),
        {"runs": str(tmp_path)},
    )
    failures = [check.name for check in report.checks if check.status == Status.FAILED]

    assert failures == ["volume"]
    cluster.put("persistentvolumeclaims", "c", status={"phase": "Bound"})
    profile = ClusterProfile(image="team:1")
    again = examine_cluster(lambda: cluster, Placement(cluster=profile), {})
    assert (report.exit_code, again.exit_code) == (5, 0)
    assert json.loads(again.to_json())["kind"] == "DoctorReport"


def test_one_failure_does_not_hide_the_others(cluster: FakeCluster) -> None:
    cluster.denied = {"nodes", "resourcequotas"}
    cluster.refusals = {
        "PyTorchJob": UnreachableError("the training operator's webhook does not answer"),
        "Job": ConflictError("one is there"),
    }

    report = examine_cluster(lambda: ready(cluster), Placement(), {})

    told = {check.name: check for check in report.checks}
    assert report.exit_code == 5
    assert told["nodes"].status == told["quota"].status == Status.UNKNOWN  # rights are lacking
    assert "webhook does not answer" in told["dry run: PyTorchJob"].message
    assert told["dry run: Job"].status == Status.FAILED
    assert told["dry run: pod"].status == Status.OK
    assert not any("hbseg doctor" in check.fix for check in report.checks)


@pytest.mark.parametrize("when", ["connect", "answer"])
def test_an_unreachable_cluster_leaves_the_rest_unchecked(
    cluster: FakeCluster, tmp_path: Path, when: str
) -> None:
    error = UnreachableError("cluster not reachable at https://cluster", "is it up?")

    def connect() -> FakeCluster:
        if when == "connect":
            raise error
        cluster.unreachable = error
        return cluster

    report = examine_cluster(connect, Placement(), {"runs": str(tmp_path)})

    told = {check.name: check for check in report.checks}
    assert report.exit_code == 4
    assert (told["api"].status, told["api"].fix) == (Status.FAILED, "is it up?")
    assert {told[name].status for name in OF_THE_CLUSTER} == {Status.UNKNOWN}
    assert told["runs: write"].status == Status.OK


def test_the_machine_is_looked_at_for_the_local_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        machine, "torch", lambda: iter([Check(name="torch", status=Status.OK, message="")])
    )

    report = examine_machine(tmp_path, {"runs": str(tmp_path / "runs")})

    assert (report.backend, report.exit_code) == ("local", 0)
    assert {check.name for check in report.checks} >= {"torch", "disk", "runs: read"}


@pytest.mark.parametrize(("denied", "status"), [(unknown, Status.UNKNOWN), (failed, Status.FAILED)])
def test_a_denial_is_what_the_look_makes_of_it_and_keeps_its_hint(
    denied: Callable[[str, str, str], Check], status: Status
) -> None:
    def look(hint: str) -> Iterable[Check]:
        raise DeniedError("not allowed", hint)

    (check,) = guarded("x", look, "log in", denied=denied)
    (circular,) = guarded("x", look, "run: hbseg doctor", denied=denied)

    assert (check.status, check.message, check.fix) == (status, "not allowed", "log in")
    assert circular.fix == ""


def test_an_object_that_is_missing_is_no_want_of_rights(cluster: FakeCluster) -> None:
    cluster.refusals = {"PyTorchJob": NotFoundError("no namespace team in the cluster")}

    report = examine_cluster(lambda: ready(cluster), Placement(), {})

    told = {check.name: check for check in report.checks}
    assert told["dry run: PyTorchJob"].status == Status.FAILED
