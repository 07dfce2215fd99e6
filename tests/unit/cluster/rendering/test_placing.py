"""Where and with what pods run: nodes, retries, resources, volumes, queues."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hbseg.cluster.pods.template import require_image
from hbseg.cluster.rendering.manifests import (
    check_storage,
    job_objects,
)
from hbseg.config.placement import Placement
from hbseg.config.pod_profile import Volume
from hbseg.config.settings import SettingsFile
from hbseg.config.specs import (
    InferSpec,
    PrepareSpec,
)
from hbseg.documents import canonical_digest
from hbseg.errors import SpecError, UsageError
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step
from tests.unit.cluster.rendering.cases import (
    BATCH,
    COMPILE,
    EFFICIENCY,
    INFER,
    PROFILE,
    STAGE1,
    TRAININGS,
    call,
    container_of,
    environment_of,
    job,
    placed,
    pod_of,
    runner,
    split,
    template_of,
)


def test_nodes_wait_for_each_other_as_long_as_they_may_be_pending() -> None:
    of, placement = TRAININGS["train-2x4"]
    with_retry_timeout = placement.model_copy(update={"pending_timeout": 3600.5})

    def settings(place: Placement) -> list[dict[str, str]]:
        found: list[dict[str, str]] = job_objects(of, place)[1]["spec"]["elasticPolicy"]["rdzvConf"]
        return found

    assert settings(placement) == [{"key": "join_timeout", "value": "600"}]
    assert settings(with_retry_timeout) == [{"key": "join_timeout", "value": "3601"}]


@pytest.mark.parametrize("of", [COMPILE, INFER, EFFICIENCY], ids=lambda of: of.step)
def test_image_and_gpu_follow_the_kind_of_engine(of: StepCall) -> None:
    def pod(kind: str, **profile: Any) -> tuple[str, str | None]:
        placement = placed(tensorrt_image="images.example/hbseg-tensorrt:1", **profile)
        objects = job_objects(of._replace(engine=kind), placement)
        container = container_of(objects[1])
        return container["image"], container["resources"]["limits"].get("nvidia.com/gpu")

    assert pod("onnx") == (PROFILE.image, None)
    assert pod("tensorrt") == ("images.example/hbseg-tensorrt:1", "1")
    assert pod("tensorrt", gpus_per_process=4) == ("images.example/hbseg-tensorrt:1", "1")
    assert pod("eager") == (PROFILE.image, "1")
    assert pod("eager", gpus_per_process=0) == (PROFILE.image, None)


@pytest.mark.parametrize("of", [COMPILE, INFER, EFFICIENCY], ids=lambda of: of.step)
def test_an_image_with_tensorrt_is_asked_for_where_the_engine_needs_it(of: StepCall) -> None:
    require_image(of.step, "onnx", placed())
    require_image(of.step, "tensorrt", placed(tensorrt_image="images.example/hbseg-tensorrt:1"))
    with pytest.raises(SpecError) as raised:
        require_image(of.step, "tensorrt", placed())
    assert str(raised.value) == (
        f"no image with TensorRT for the pods of {of.step}; set cluster.tensorrt_image in "
        "hbseg.yaml (profile.tensorrt_image of the chart), or give --engine onnx (a pipeline: "
        "--set compile.engine=onnx)"
    )


def test_one_node_is_a_master_alone() -> None:
    spec = job("train-one-node")["spec"]

    assert list(spec["pytorchReplicaSpecs"]) == ["Master"]
    assert spec["pytorchReplicaSpecs"]["Master"]["replicas"] == 1
    assert spec["nprocPerNode"] == "1"
    assert "elasticPolicy" not in spec


def test_several_nodes_are_elastic_workers_of_a_fixed_number() -> None:
    spec = job("train-2x4")["spec"]

    assert list(spec["pytorchReplicaSpecs"]) == ["Worker"]
    assert spec["pytorchReplicaSpecs"]["Worker"]["replicas"] == 2
    assert spec["nprocPerNode"] == "4"
    assert spec["elasticPolicy"] == {
        "minReplicas": 2,
        "maxReplicas": 2,
        "rdzvBackend": "c10d",
        "maxRestarts": 0,
        "rdzvConf": [{"key": "join_timeout", "value": "600"}],
    }


@pytest.mark.parametrize("name", TRAININGS)
def test_the_launcher_is_the_one_authority_over_a_trainings_retries(name: str) -> None:
    spec = job(name)["spec"]
    (replica,) = spec["pytorchReplicaSpecs"].values()

    assert replica["restartPolicy"] == "ExitCode"
    assert spec["runPolicy"] == {"cleanPodPolicy": "Running"}
    assert "readinessProbe" not in container_of(job(name))


@pytest.mark.parametrize("name", BATCH)
def test_a_batch_job_ends_at_permanent_codes_and_ignores_disruptions(name: str) -> None:
    _, placement = BATCH[name]
    spec = job(name)["spec"]
    ignore, fail = spec["podFailurePolicy"]["rules"]

    assert ignore["action"] == "Ignore"
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert fail["action"] == "FailJob"
    codes = {"containerName": "step", "operator": "In", "values": [1, 65, 66, 70, 76, 78]}
    assert fail["onExitCodes"] == codes
    assert spec["backoffLimit"] > placement.retries
    assert spec["ttlSecondsAfterFinished"] == placement.cluster.keep_finished
    assert pod_of(job(name))["restartPolicy"] == "Never"


def test_inference_has_an_index_for_each_node() -> None:
    spec = job("infer")["spec"]
    found = environment_of(job("infer"))

    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    path = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert found["HBSEG_NODE"] == {"fieldRef": {"fieldPath": path}}
    assert found["HBSEG_NODES"] == "3"
    assert job_objects(INFER, placed())[-1]["spec"]["completionMode"] == "Indexed"


def test_other_steps_have_one_pod_whatever_a_training_has() -> None:
    for name in ("prepare", "compile", "efficiency", "report"):
        assert "completions" not in job(name)["spec"]
        assert environment_of(job(name))["HBSEG_NODES"] == "1"
        assert environment_of(job(name))["HBSEG_NODE"] == "0"


def test_a_trainings_pod_knows_its_number() -> None:
    path = "metadata.labels['training.kubeflow.org/replica-index']"

    for name in ("train-one-node", "train-2x4"):
        assert environment_of(job(name))["HBSEG_NODE"] == {"fieldRef": {"fieldPath": path}}
    assert environment_of(job("train-2x4"))["HBSEG_NODES"] == "2"


# Resources and places.


@pytest.mark.parametrize(("name", "gpus"), [("train-one-node", "1"), ("train-2x4", "4")])
def test_a_pod_has_the_gpus_of_its_processes(name: str, gpus: str) -> None:
    assert container_of(job(name))["resources"]["limits"]["nvidia.com/gpu"] == gpus


@pytest.mark.parametrize("name", ["train-cpu-only", *BATCH, "pipeline"])
def test_a_pod_without_use_for_a_gpu_has_none(name: str) -> None:
    resources = container_of(job(name))["resources"]
    assert not any("nvidia" in key for part in resources.values() for key in part)


def test_resources_are_those_of_all_processes_and_shared_memory() -> None:
    two_by_four = container_of(job("train-2x4"))["resources"]
    cpu_only = container_of(job("train-cpu-only"))["resources"]

    assert two_by_four["requests"] == {
        "cpu": "16",
        "memory": "68Gi",
        "ephemeral-storage": "52Gi",
        "nvidia.com/gpu": "4",
        "rdma/hca": "1",
    }
    assert two_by_four["limits"] == {"memory": "68Gi", "nvidia.com/gpu": "4", "rdma/hca": "1"}
    assert cpu_only["requests"]["cpu"] == "1"
    assert cpu_only["limits"] == {"memory": "3328Mi"}


def test_shared_memory_and_scratch_have_their_sizes() -> None:
    volumes = {volume["name"]: volume for volume in pod_of(job("train-cpu-only"))["volumes"]}

    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "256Mi"}
    assert volumes["scratch"]["emptyDir"] == {"sizeLimit": "50Gi"}


def test_a_process_uses_as_many_threads_as_it_asked_cores() -> None:
    def threads(placement: Placement) -> int:
        own, _ = split(container_of(job_objects(STAGE1, placement)[-1])["args"])
        given = own[own.index("--placement") + 1]
        return Placement.model_validate_json(given).threads_per_process

    assert threads(placed(cpu_per_process="6")) == 6
    assert threads(placed(cpu_per_process="500m")) == 1
    assert threads(placed().model_copy(update={"threads_per_process": 2})) == 2


def test_a_part_of_a_gpu_has_its_own_name_and_a_queue_labels_the_job_alone() -> None:
    manifest = job("train-kueue")

    assert container_of(manifest)["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "kueue.x-k8s.io/queue-name" not in template_of(manifest)["metadata"]["labels"]
    assert "suspend" not in manifest["spec"]["runPolicy"]


def test_spot_nodes_are_chosen_and_tolerated() -> None:
    pod = pod_of(job("train-spot"))

    assert pod["nodeSelector"] == {"pool": "spot"}
    assert pod["tolerations"] == [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}]


def test_pods_of_one_job_are_spread_as_far_as_possible() -> None:
    (constraint,) = pod_of(job("train-2x4"))["topologySpreadConstraints"]
    labels = template_of(job("train-2x4"))["metadata"]["labels"]

    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()
    assert constraint["labelSelector"]["matchLabels"]["hbseg.io/task"] == "stage2"


def test_a_volume_is_mounted_read_only_unless_asked() -> None:
    pod, container = pod_of(job("train-cpu-only")), container_of(job("train-cpu-only"))

    claim = {"claimName": "libraries", "readOnly": True}
    assert pod["volumes"][-1] == {"name": "volume-0", "persistentVolumeClaim": claim}
    mount = {"name": "volume-0", "mountPath": "/venv", "readOnly": True}
    assert container["volumeMounts"][-1] == mount


def test_a_profiles_environment_comes_last_and_only_once() -> None:
    found = environment_of(
        job_objects(STAGE1, placed(2, environment={"GLOO_SOCKET_IFNAME": "net1"}))[-1]
    )
    assert found["GLOO_SOCKET_IFNAME"] == "net1"


def test_two_volumes_at_one_place_are_refused() -> None:
    volumes = (Volume(claim="a", path="/data"), Volume(claim="b", path="/data/"))
    with pytest.raises(SpecError, match=r"main-stage1: two volumes are mounted at /data"):
        job_objects(STAGE1, placed(volumes=volumes))


def test_kubernetes_puts_no_variable_into_an_argument() -> None:
    raw = call(Step.PREPARE, "prepare", PrepareSpec(), raw="s3://team/$(HOME)")
    manifest = job_objects(raw, placed(environment={"A": "$(HOME)"}))[-1]

    assert container_of(manifest)["args"][-1] == "s3://team/$$(HOME)"
    assert environment_of(manifest)["A"] == "$$(HOME)"


def test_a_namespace_is_on_every_object_or_on_none() -> None:
    assert {m["metadata"]["namespace"] for m in job_objects(STAGE1, placed(), namespace="a")} == {
        "a"
    }
    assert all("namespace" not in m["metadata"] for m in job_objects(STAGE1, placed()))


# The runner.


def test_the_runner_finds_its_specs_and_settings() -> None:
    config, manifest = runner()
    container = container_of(manifest)

    assert config["metadata"]["name"] == f"hbseg-spec-{canonical_digest(config['data'])[:12]}"
    settings = SettingsFile.from_text(config["data"]["hbseg.yaml"], source="x")
    assert settings.runs == "s3://team/runs"
    assert yaml.safe_load(config["data"]["spec.yaml"])["report"]["kind"] == "ReportSpec"
    assert container["workingDir"] == "/etc/hbseg"
    assert container["args"][:3] == ["main", "--backend", "kubernetes"]
    assert "2x4" in container["args"]
    assert container["image"] == PROFILE.control_image
    assert pod_of(manifest)["serviceAccountName"] == "hbseg-runner"
    assert environment_of(manifest)["USER"] == "alice"


# Storage that pods see.


def test_a_folder_is_seen_only_below_a_volume() -> None:
    local = call(Step.INFER, "images/0a", InferSpec(mode="images", images="/pictures"))
    volume = Volume(claim="pictures", path="/pictures")

    assert local.folders() == ["s3://team/runs", "s3://team/data", "/pictures"]
    with pytest.raises(UsageError, match="do not see the folder /pictures;"):
        check_storage(local.folders(), PROFILE)
    mounted = PROFILE.model_copy(update={"volumes": (volume,)})
    check_storage(["/pictures/a", "s3://bucket/a"], mounted)
    with pytest.raises(UsageError, match="do not see the folder /picturesque;"):
        check_storage(["/pictures/a", "/picturesque"], mounted)
