"""Profiles of real clusters: their golden files, and what each key becomes in which pods."""

from __future__ import annotations

from typing import Any

import pytest

from hbseg.cluster.pods.restricted import restricted_problems
from hbseg.cluster.rendering.manifests import job_objects
from hbseg.errors import SpecError
from tests.unit.cluster.rendering.cases import STAGE1, placed
from tests.unit.cluster.rendering.profiles import PROFILES, jobs, pods


def container(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template["spec"]["containers"][0]
    return found


def environment(template: dict[str, Any]) -> dict[str, Any]:
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in container(template)["env"]}


@pytest.mark.parametrize("name", PROFILES)
def test_all_pods_of_a_profile_pass_the_restricted_standard(name: str) -> None:
    for step, template in pods(name).items():
        assert list(restricted_problems(template["spec"])) == [], step


def test_without_a_fixed_user_the_namespace_gives_one() -> None:
    for template in pods("openshift").values():
        security = template["spec"]["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & security.keys()
        assert security["runAsNonRoot"] is True


def test_limits_as_requested_are_on_every_pod_the_runners_too() -> None:
    for template in pods("openshift").values():
        resources = container(template)["resources"]
        for name in ("cpu", "ephemeral-storage"):
            assert resources["limits"][name] == resources["requests"][name]
    for name in ("cpu", "ephemeral-storage"):
        assert name not in container(pods("eks")["stage1"])["resources"]["limits"]


def test_labels_and_annotations_are_on_jobs_and_pods() -> None:
    for step, template in pods("mesh").items():
        assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
        assert template["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"
        assert jobs("mesh")[step]["metadata"]["labels"]["team"] == "vision"
        assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "hbseg"
    assert jobs("eks")["infer"]["metadata"]["annotations"]["alpha.example/owner"] == "vision"
    assert "hbseg.io/spec-hash" in jobs("eks")["infer"]["metadata"]["annotations"]


def test_every_job_of_a_queue_has_its_name_the_runners_too() -> None:
    for step, job in jobs("mesh").items():
        labels = job["metadata"]["labels"]
        assert labels["kueue.x-k8s.io/queue-name"] == "vision", step
        assert labels["kueue.x-k8s.io/priority-class"] == "high", step


def test_only_trainings_have_the_place_and_devices_of_trainings() -> None:
    eks = pods("eks")
    assert container(eks["stage1"])["resources"]["limits"]["vpc.amazonaws.com/efa"] == "32"
    assert container(eks["stage1"])["resources"]["requests"]["hugepages-2Mi"] == "5120Mi"
    assert eks["stage1"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    for step in ("infer", "pipeline"):
        assert not {"nodeSelector", "tolerations"} & eks[step]["spec"].keys()
        assert "vpc.amazonaws.com/efa" not in container(eks[step])["resources"]["limits"]
        assert "FI_PROVIDER" not in environment(eks[step])


def test_the_runtime_class_is_for_pods_with_gpus() -> None:
    k3s = pods("k3s")
    assert k3s["stage1"]["spec"]["runtimeClassName"] == "nvidia"
    for step in ("infer", "pipeline"):
        assert "runtimeClassName" not in k3s[step]["spec"]


def test_scratch_of_a_storage_class_is_a_claim_that_lives_with_the_pod() -> None:
    def scratch(step: str) -> dict[str, Any]:
        volumes = {v["name"]: v for v in pods("eks")[step]["spec"]["volumes"]}
        found: dict[str, Any] = volumes["scratch"]
        return found

    spec = scratch("stage1")["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert spec["storageClassName"] == "gp3"
    assert spec["resources"] == {"requests": {"storage": "200Gi"}}
    assert container(pods("eks")["stage1"])["resources"]["requests"]["ephemeral-storage"] == "2Gi"
    infer = scratch("infer")["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert infer["resources"] == {"requests": {"storage": "20Gi"}}
    assert "emptyDir" in scratch("pipeline")


def test_environment_from_secrets_is_for_steps_alone() -> None:
    key = {"secretKeyRef": {"name": "wandb", "key": "key", "optional": True}}

    assert environment(pods("eks")["stage1"])["WANDB_API_KEY"] == key
    assert environment(pods("eks")["infer"])["WANDB_API_KEY"] == key
    assert "WANDB_API_KEY" not in environment(pods("eks")["pipeline"])


def test_certificates_are_mounted_and_named_in_every_pod() -> None:
    for template in pods("proxy").values():
        mounts = {m["name"]: m for m in container(template)["volumeMounts"]}
        volumes = {v["name"]: v for v in template["spec"]["volumes"]}
        assert environment(template)["AWS_CA_BUNDLE"] == "/etc/hbseg-ca/ca.crt"
        assert mounts["ca"] == {"name": "ca", "mountPath": "/etc/hbseg-ca", "readOnly": True}
        assert volumes["ca"]["configMap"] == {"name": "corp-ca"}
        assert environment(template)["HTTPS_PROXY"] == "http://proxy.corp.example:3128"


def test_how_s3_is_addressed_is_told_to_every_pod() -> None:
    for template in pods("k3s").values():
        assert environment(template)["HBSEG_S3_ADDRESSING"] == "path"
        assert environment(template)["AWS_REQUEST_CHECKSUM_CALCULATION"] == "when_required"
        assert environment(template)["AWS_RESPONSE_CHECKSUM_VALIDATION"] == "when_required"
    assert "HBSEG_S3_ADDRESSING" not in environment(pods("eks")["stage1"])


def test_volumes_of_each_source_are_mounted() -> None:
    spec = pods("proxy")["infer"]["spec"]
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes["volume-0"]["secret"] == {"secretName": "gcp"}
    assert volumes["volume-1"]["configMap"] == {"name": "hosts"}
    (mount,) = [m for m in container(pods("k3s")["stage1"])["volumeMounts"] if "subPath" in m]
    assert mount == {
        "name": "volume-0",
        "mountPath": "/data",
        "readOnly": True,
        "subPath": "team",
    }


def test_a_gang_is_asked_for_with_all_its_pods() -> None:
    policy = jobs("mesh")["stage1"]["spec"]["runPolicy"]["schedulingPolicy"]
    assert policy == {"minAvailable": 2, "queue": "vision", "priorityClass": "training"}
    assert pods("mesh")["stage1"]["spec"]["schedulerName"] == "volcano"
    assert "schedulerName" not in pods("mesh")["pipeline"]["spec"]
    assert "schedulingPolicy" not in jobs("eks")["stage1"]["spec"]["runPolicy"]


def test_a_toleration_keeps_its_seconds() -> None:
    (toleration,) = pods("k3s")["infer"]["spec"]["tolerations"]
    assert toleration["tolerationSeconds"] == 60


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"limits": {"cpu": "2"}}, "cluster.limits.cpu is 2, and the pod asks for 4"),
        (
            {"limits": {"ephemeral_storage": "10Gi"}},
            "cluster.limits.ephemeral_storage is 10Gi, and the pod asks for 52Gi",
        ),
        ({"devices": {"memory": "32Gi"}}, "cluster.devices names memory, which has a key of its"),
        ({"devices": {"nvidia.com/gpu": 8}}, "cluster.devices names nvidia.com/gpu, which has"),
        (
            {"environment": {"A": "x"}, "secret_environment": {"A": {"secret": "s", "key": "k"}}},
            "A is in cluster.environment and in cluster.secret_environment",
        ),
        (
            {"gpu_resource": "nvidia.com/mig-1g.10gb", "gpus_per_process": 2},
            "a process cannot join 2 parts of GPUs",
        ),
    ],
)
def test_what_pods_cannot_have_is_refused(profile: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        job_objects(STAGE1, placed(**profile))
    assert message in refused.value.message
