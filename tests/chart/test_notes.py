"""What an installation tells people, in the words of the doctor."""

from __future__ import annotations

from hbseg.cluster.requests.api_errors import Call, api_error
from hbseg.cluster.requests.resources import PYTORCH_JOB
from hbseg.doctor.objects import images, secret
from hbseg.doctor.storage import storage
from tests.helm import NAMESPACE, Helm
from tests.unit.doctor.fake_cluster import FakeCluster, one, subject

READY = {
    "data": "s3://team/data",
    "runs": "s3://team/runs",
    "profile": {"image": "train:1", "control_image": "control:1"},
}


def test_notes_of_a_whole_profile_tell_the_next_command_and_warn_of_nothing(helm: Helm) -> None:
    told = helm.notes(**READY)

    assert f"helm test hbseg -n {NAMESPACE} --logs" in told
    assert told.count("WARNING") == 1  # of the operator: helm knows no cluster here


def test_a_missing_operator_is_told_in_the_doctors_words(helm: Helm) -> None:
    missing = api_error(Call("list", PYTORCH_JOB, NAMESPACE), 404, b"404 page not found")

    assert f"WARNING: {missing.message}" in helm.notes(**READY)


def test_the_secret_is_told_in_the_doctors_words(helm: Helm) -> None:
    check = one(secret, subject(FakeCluster(namespace=NAMESPACE), credentials_secret="hbseg-s3"))

    assert check.message == "no Secret hbseg-s3"
    assert check.fix in helm.notes(**READY, credentials={"existingSecret": "hbseg-s3"})
    assert "Secret" not in helm.notes(**READY)


def test_missing_storage_is_told_in_the_doctors_words(helm: Helm) -> None:
    (check,) = storage({})

    told = helm.notes()
    assert check.message in told
    assert "helm test" not in told
    assert "no data given" in helm.notes(runs="s3://a/b")
    assert "no runs given" in helm.notes(data="s3://a/b")


def test_a_missing_image_is_told_in_the_doctors_words(helm: Helm) -> None:
    check = one(images, subject(FakeCluster(namespace=NAMESPACE)))

    told = helm.notes()
    assert f"{check.message}: set profile.image" in told
    assert "no image for runner and doctor: set profile.control_image" in told
    assert "helm upgrade hbseg" in told
