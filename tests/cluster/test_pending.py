"""A job that does not start: the reason is told in one line."""

from __future__ import annotations

from tests.cluster.cluster import until
from tests.cluster.crew import PREPARE, TRAIN, is_gone, row, until_row
from tests.cluster.team import Team

GPU = "example.com/gpu"
"""A GPU that no node has."""


def test_a_wrong_image_is_named_and_the_job_ends_after_the_pending_timeout(crew: Team) -> None:
    wrong = crew.with_profile(image="localhost/no-such:1", image_pull_policy="IfNotPresent")

    line = wrong.api_error(101, *TRAIN, "--wait", "--pending-timeout", "30")

    assert "localhost/no-such:1" in line
    assert "did not start within 30 s" in line
    assert row(wrong)["state"] == "cancelled"
    assert is_gone(crew, "pods")
    assert is_gone(crew, "pytorchjobs")


def test_a_gpu_that_no_node_has_is_the_reason(crew: Team) -> None:
    crew.with_profile(gpus_per_process=1, gpu_resource=GPU).hbseg(*TRAIN)

    until_row(crew, lambda item: GPU in str(item["reason"]), "a GPU is the reason")

    assert row(crew)["state"] == "pending"
    crew.hbseg("cancel", "drill", "-y")
    assert row(crew)["state"] == "cancelled"
    assert is_gone(crew, "pods")


def test_a_quota_is_the_reason_for_a_training_and_for_a_batch_job(crew: Team) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    crew.namespace.create({**quota, "spec": {"hard": {"pods": "0"}}})
    crew.hbseg(*TRAIN)
    crew.hbseg(*PREPARE)

    for step in ("stage1", "prepare"):
        until(lambda step=step: "quota" in str(row(crew, step)["reason"]), f"{step}: quota")  # type: ignore[misc]


def test_a_missing_secret_and_a_missing_volume_are_named(crew: Team) -> None:
    crew.with_profile(credentials_secret="no-such-secret").hbseg(*TRAIN)
    until_row(crew, lambda item: "no-such-secret" in str(item["reason"]), "the Secret is named")
    crew.hbseg("cancel", "drill", "-y")

    volumes = [*crew.profile["volumes"], {"claim": "no-such-claim", "path": "/extra"}]
    crew.with_profile(volumes=volumes).hbseg(*TRAIN)
    until_row(crew, lambda item: "no-such-claim" in str(item["reason"]), "the claim is named")
