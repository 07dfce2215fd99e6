from __future__ import annotations

import base64

import pytest

from hbseg.config.pod_profile import Volume
from hbseg.doctor import objects
from hbseg.doctor.check import Status
from tests.unit.doctor.fake_cluster import FakeCluster, Look, one, subject


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_secret_has_its_keys_and_keeps_its_values(cluster: FakeCluster) -> None:
    of = subject(cluster, credentials_secret="hbseg-s3")
    missing = one(objects.secret, of)
    assert missing.status == Status.FAILED
    assert "create secret generic hbseg-s3" in missing.fix

    key, secret = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
    cluster.put("secrets", "hbseg-s3", data={key: encoded("abc")})
    assert "has no AWS_SECRET_ACCESS_KEY" in one(objects.secret, of).message

    cluster.put("secrets", "hbseg-s3", data={key: encoded("abc"), secret: encoded("hush\n")})
    blank = one(objects.secret, of)
    assert (blank.status, "hush" in blank.model_dump_json()) == (Status.FAILED, False)

    cluster.put("secrets", "hbseg-s3", data={key: encoded("abc"), secret: encoded("hush")})
    good = one(objects.secret, of)
    assert (good.status, "hush" in good.model_dump_json()) == (Status.OK, False)


def test_without_a_secret_workload_identity_is_meant(cluster: FakeCluster) -> None:
    check = one(objects.secret, subject(cluster, service_account="trainer"))

    assert (check.status, "trainer" in check.message) == (Status.OK, True)


def test_a_queue_is_there_missing_inactive_or_kueue_is(cluster: FakeCluster) -> None:
    assert list(objects.queue(subject(cluster))) == []
    of = subject(cluster, queue="team-a")
    assert one(objects.queue, of).status == Status.FAILED
    cluster.put("localqueues", "team-a")
    assert one(objects.queue, of).status == Status.OK
    inactive = [{"type": "Active", "status": "False", "message": "no ClusterQueue"}]
    cluster.put("localqueues", "team-a", status={"conditions": inactive})
    assert "no ClusterQueue" in one(objects.queue, of).message


def test_what_only_the_runner_is_given_is_looked_at_too(cluster: FakeCluster) -> None:
    volume = {"claim": "runs", "path": "/runs"}
    own = {"queue": "runners", "priority_class": "low", "volumes": [volume]}
    of = subject(cluster, steps={"runner": own})

    looks: list[Look] = [objects.queue, objects.priority_class, objects.volumes]

    assert [one(look, of).message for look in looks] == [
        "no LocalQueue runners",
        "no PriorityClass low",
        "no volume claim runs",
    ]


def test_the_runner_needs_an_image_of_its_own(cluster: FakeCluster) -> None:
    check = one(objects.runner_image, subject(cluster, image="team/train:1"))

    assert (check.status, check.message) == (Status.WARNING, "no image for runner and doctor")
    assert check.fix.startswith("set cluster.control_image in hbseg.yaml (profile.control_image")
    for named in ({"control_image": "c:1"}, {"steps": {"runner": {"image": "c:1"}}}):
        assert list(objects.runner_image(subject(cluster, **named))) == []


def test_tensorrt_needs_an_image_where_pods_have_gpus(cluster: FakeCluster) -> None:
    check = one(objects.tensorrt_image, subject(cluster, image="team/train:1"))

    assert check.status == Status.WARNING
    assert check.message == "no image with TensorRT for the pods of compile, infer and efficiency"
    assert check.fix.startswith("set cluster.tensorrt_image in hbseg.yaml")
    for named in ({"tensorrt_image": "t:1"}, {"gpus_per_process": 0}):
        assert list(objects.tensorrt_image(subject(cluster, **named))) == []


def test_steps_without_an_image_are_named(cluster: FakeCluster) -> None:
    none = one(objects.images, subject(cluster))
    some = one(objects.images, subject(cluster, steps={"others": {"image": "team/train:1"}}))

    assert (none.status, none.message) == (Status.FAILED, "no image for the pods of steps")
    assert some.message == "no image for the pods of stage1, stage2"


def test_named_objects_are_there_or_missed(cluster: FakeCluster) -> None:
    of = subject(
        cluster,
        service_account="trainer",
        priority_class="high",
        image_pull_secrets=("registry",),
        volumes=(Volume(claim="cache", path="/cache"),),
    )
    looks: list[Look] = [objects.priority_class, objects.pull_secrets, objects.volumes]
    assert [one(look, of).status for look in looks] == [Status.FAILED] * 3
    assert [check.status for check in objects.service_accounts(of)] == ["failed", "warning"]

    cluster.put("serviceaccounts", "trainer")
    cluster.put("serviceaccounts", "hbseg-runner")
    cluster.put("priorityclasses", "high")
    cluster.put("secrets", "registry")
    cluster.put("persistentvolumeclaims", "cache", status={"phase": "Bound"})

    assert [one(look, of).status for look in looks] == [Status.OK] * 3
    assert [check.status for check in objects.service_accounts(of)] == ["ok", "ok"]


@pytest.mark.parametrize(("phase", "status"), [("Pending", "warning"), ("Lost", "failed")])
def test_a_claim_that_is_not_bound(cluster: FakeCluster, phase: str, status: str) -> None:
    cluster.put("persistentvolumeclaims", "cache", status={"phase": phase})

    of = subject(cluster, volumes=(Volume(claim="cache", path="/cache"),))

    assert one(objects.volumes, of).status == status


def test_an_image_that_may_change_under_its_name_is_odd(cluster: FakeCluster) -> None:
    digest = "team/train@sha256:" + "0" * 64
    tagged = subject(cluster, image="team/train:1", control_image=digest)
    pinned = subject(cluster, image=digest, control_image=digest)
    always = subject(cluster, image="team/train:1", image_pull_policy="Always")

    check = one(objects.images, tagged)

    assert (check.status, "sha256" in check.fix) == (Status.WARNING, True)
    assert check.message.startswith("team/train:1: by tag")
    assert one(objects.images, pinned).status == Status.OK
    assert list(objects.images(always)) == []
