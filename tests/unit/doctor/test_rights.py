from __future__ import annotations

from hbseg.doctor import rights
from hbseg.doctor.check import Status
from tests.unit.doctor.fake_cluster import FakeCluster, one, subject


def test_rights_are_all_there(cluster: FakeCluster) -> None:
    check = one(rights.rights, subject(cluster))

    assert check.status == Status.OK
    assert "31 verbs" in check.message


def test_missing_rights_come_as_rules_of_a_role(cluster: FakeCluster) -> None:
    cluster.forbidden = {
        ("create", "pytorchjobs"),
        ("delete", "pytorchjobs"),
        ("get", "pods/log"),
    }

    check = one(rights.rights, subject(cluster))

    assert check.status == Status.FAILED
    assert check.message.endswith("team: create, delete pytorchjobs; get pods/log")
    assert check.fix == (
        "add to a Role: rules: [{apiGroups: [kubeflow.org], resources: [pytorchjobs], "
        'verbs: [create, delete]}, {apiGroups: [""], resources: [pods/log], verbs: [get]}]'
    )
