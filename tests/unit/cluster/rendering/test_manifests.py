from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hbseg.cluster.profile import ClusterProfile, Toleration, Volume
from hbseg.cluster.rendering.lint import problems
from hbseg.cluster.rendering.manifests import (
    check_storage,
    job_objects,
    runner_objects,
    storage_of,
)
from hbseg.cluster.source import plain
from hbseg.documents import canonical_digest, dump_yaml
from hbseg.errors import SpecError, UsageError
from hbseg.placement import Placement
from hbseg.settings import SettingsFile
from hbseg.specs import (
    CompileSpec,
    EfficiencySpec,
    InferSpec,
    ModelBlock,
    PrepareSpec,
    ReportSpec,
    Spec,
    TrainSpec,
)
from hbseg.step_command import StepCall
from hbseg.steps import TRAINING, Step

ROOT = Path(__file__).resolve().parents[4]
GOLDEN = ROOT / "tests" / "golden"
STEPS = (
    *("train.yaml", "train-elastic.yaml", "prepare.yaml", "compile.yaml", "infer.yaml"),
    *("efficiency.yaml", "report.yaml"),
)
"""Plain files of the steps."""
PLAIN = sorted(path.name for path in (ROOT / "manifests").glob("*.yaml"))

Manifest = dict[str, Any]

RUN = "s3://team/runs/main"
DATASET = "s3://team/data/versions/12e5678"
"""A digest that YAML 1.2 reads as a number where it is not quoted."""
ENGINE = f"{RUN}/engine/0a1b2c3d4e5f"
PROFILE = ClusterProfile(
    image="images.example/hbseg-train:1",
    control_image="images.example/hbseg-control:1",
    credentials_secret="hbseg-s3",
    s3_endpoint="https://s3.example",
    s3_region="eu-1",
)


def call(
    step: Step, prefix: str, spec: Spec, extra: tuple[str, ...] = (), **inputs: str
) -> StepCall:
    return StepCall("main", step, prefix, spec, "s3://team/runs", "s3://team/data", inputs, extra)


STAGE1 = call(Step.STAGE1, "stage1", TrainSpec(model=ModelBlock()), dataset=DATASET)
STAGE2 = call(
    Step.STAGE2, "stage2", TrainSpec(stage=2), dataset=DATASET, checkpoint=f"{RUN}/stage1"
)
PREPARE = call(Step.PREPARE, "prepare", PrepareSpec(), ("--raw", "s3://team/raw"))
COMPILE = call(
    Step.COMPILE,
    "engine/0a1b2c3d4e5f",
    CompileSpec(),
    checkpoint=f"{RUN}/stage2",
    dataset=DATASET,
)
INFER = call(Step.INFER, "infer", InferSpec(), dataset=DATASET, engine=ENGINE)
EFFICIENCY = call(
    Step.EFFICIENCY,
    "efficiency/0a1b2c3d4e5f",
    EfficiencySpec(),
    engine=ENGINE,
    checkpoint=f"{RUN}/stage2",
    dataset=DATASET,
)
REPORT = call(
    Step.REPORT,
    "report",
    ReportSpec(),
    dataset=DATASET,
    stage1=f"{RUN}/stage1",
    stage2=f"{RUN}/stage2",
    valid=f"{RUN}/valid",
    infer=f"{RUN}/infer",
    efficiency=f"{RUN}/efficiency/0a1b2c3d4e5f",
)


def placed(nodes: int = 1, processes: int = 1, **profile: Any) -> Placement:
    cluster = PROFILE.model_copy(update=profile)
    return Placement(nodes=nodes, processes_per_node=processes, cluster=cluster)


def runner() -> list[Manifest]:
    specs = {"stage1": STAGE1.spec.to_mapping(), "report": REPORT.spec.to_mapping()}
    settings = {"backend": "kubernetes", "data": "s3://team/data", "runs": "s3://team/runs"}
    return runner_objects("main", specs, settings, placed(2, 4), owner="alice")


SPOT = Toleration(key="spot", operator="Exists", effect="NoSchedule")
TRAININGS: dict[str, tuple[StepCall, Placement]] = {
    "train-one-node": (STAGE1, placed()),
    "train-2x4": (
        STAGE2,
        placed(
            2,
            4,
            spread_over="kubernetes.io/hostname",
            rdma_resource="rdma/hca",
            environment={"NCCL_SOCKET_IFNAME": "eth0", "NCCL_IB_HCA": "mlx5"},
            priority_class="training",
            service_account="hbseg-steps",
            image_pull_secrets=("images",),
        ),
    ),
    "train-cpu-only": (
        STAGE1,
        placed(
            2,
            2,
            gpus_per_process=0,
            cpu_per_process="500m",
            memory_per_process="1536Mi",
            shared_memory="256Mi",
            volumes=(Volume(claim="libraries", path="/venv"),),
            environment={"PATH": "/venv/bin:/usr/bin"},
        ),
    ),
    "train-kueue": (STAGE1, placed(2, 1, queue="team-a", gpu_resource="nvidia.com/mig-1g.10gb")),
    "train-spot": (
        STAGE1,
        placed(node_selector={"pool": "spot"}, tolerations=(SPOT,), termination_grace=30),
    ),
}
BATCH: dict[str, tuple[StepCall, Placement]] = {
    "prepare": (PREPARE, placed(2, 4)),
    "compile": (COMPILE, placed(2, 4)),
    "infer": (INFER, placed(3, 4)),
    "efficiency": (EFFICIENCY, placed(queue="team-a")),
    "report": (REPORT, placed()),
}
CASES = [*TRAININGS, *BATCH, "pipeline"]


def rendered(name: str) -> list[Manifest]:
    return runner() if name == "pipeline" else job_objects(*(TRAININGS | BATCH)[name])


def job(name: str) -> Manifest:
    return rendered(name)[-1]


def template_of(manifest: Manifest) -> Manifest:
    if manifest["kind"] == "Job":
        template: Manifest = manifest["spec"]["template"]
        return template
    (replica,) = manifest["spec"]["pytorchReplicaSpecs"].values()
    found: Manifest = replica["template"]
    return found


def pod_of(manifest: Manifest) -> Manifest:
    pod: Manifest = template_of(manifest)["spec"]
    return pod


def container_of(manifest: Manifest) -> Manifest:
    (container,) = pod_of(manifest)["containers"]
    found: Manifest = container
    return found


def environment_of(manifest: Manifest) -> dict[str, Any]:
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in container_of(manifest)["env"]}


# Golden files: what a person would send, as it is sent.


@pytest.mark.parametrize("name", CASES)
def test_manifests_are_those_of_the_golden_file(name: str) -> None:
    """`HBSEG_GOLDEN=write` writes the files anew."""
    path = GOLDEN / f"{name}.yaml"
    text = "---\n".join(dump_yaml(manifest) for manifest in rendered(name))
    if os.environ.get("HBSEG_GOLDEN") == "write":
        assert not os.environ.get("CI"), "golden files are never written in CI"
        path.write_text(text)
    assert path.read_text() == text


def test_every_golden_file_has_its_case() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_same_call_gives_the_same_manifests_and_shares_nothing(name: str) -> None:
    first = rendered(name)
    second = rendered(name)
    assert first == second

    template_of(first[-1])["metadata"]["labels"]["changed"] = "yes"
    container_of(first[-1])["env"].clear()

    assert rendered(name) == second
    assert "&" not in dump_yaml(second[-1])


# Plain YAML.


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_manifest_is_valid_as_it_stands(name: str) -> None:
    manifest = plain(name)

    assert problems(manifest) == []
    assert manifest["metadata"]["labels"]["app.kubernetes.io/part-of"] == "hbseg"


@pytest.mark.parametrize("name", [*STEPS, "pipeline.yaml"])
def test_a_plain_manifest_is_what_is_rendered_but_for_values(name: str) -> None:
    """Nothing is added that the plain file does not show, where the profile asks for nothing."""
    bare = Placement(processes_per_node=4, nodes=2 if name == "train-elastic.yaml" else 1)
    calls = {f"{case.step}.yaml": case for case, _ in BATCH.values()}
    whole = (
        runner_objects("main", {}, {}, bare, owner="alice")
        if name == "pipeline.yaml"
        else job_objects(calls.get(name, STAGE1), bare)
    )[-1]
    whole["metadata"].pop("annotations")

    assert keys_of(whole) == keys_of(plain(name))


def keys_of(value: Any, path: str = "") -> set[str]:
    """Paths of all keys, with the names of list items instead of their numbers."""
    if isinstance(value, dict):
        return {path} | {p for k, v in value.items() for p in keys_of(v, f"{path}.{k}")}
    if isinstance(value, list):
        named = [(item.get("name", "") if isinstance(item, dict) else "", item) for item in value]
        return {p for name, item in named for p in keys_of(item, f"{path}[{name}]")}
    return {path}


def test_the_pods_of_all_steps_have_one_shape() -> None:
    """So that five nearly equal files do not drift apart."""
    shapes = {name: shape_of(plain(name)) for name in STEPS}

    first = shapes.pop("train.yaml")
    for name, shape in shapes.items():
        assert shape == first, name


def shape_of(manifest: Manifest) -> Manifest:
    """A pod without what makes a step another one: command line, number of pods, devices."""
    pod = pod_of(manifest)
    pod.pop("restartPolicy", None)  # the operator sets that of a PyTorchJob's pods
    container = container_of(manifest)
    for name in ("name", "args", "resources"):
        container.pop(name)
    own = ("HBSEG_NODE", "HBSEG_NODES", "GLOO_SOCKET_IFNAME")
    container["env"] = [v for v in container["env"] if v["name"] not in own]
    return pod


def test_the_runners_pod_has_the_same_security_and_less_of_the_rest() -> None:
    runner, step = pod_of(plain("pipeline.yaml")), pod_of(plain("report.yaml"))

    assert runner["securityContext"] == step["securityContext"]
    for name in ("securityContext", "terminationMessagePolicy", "imagePullPolicy"):
        assert runner["containers"][0][name] == step["containers"][0][name]
    assert "shm" not in {volume["name"] for volume in runner["volumes"]}


# The `restricted` Pod Security standard.


@pytest.mark.parametrize("name", [*CASES, *(n for n in PLAIN if n != "spec.yaml")])
def test_every_pod_passes_the_restricted_standard(name: str) -> None:
    manifest = plain(name) if name.endswith(".yaml") else job(name)
    pod, container = pod_of(manifest), container_of(manifest)

    assert not set(pod) & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 1
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "ports" not in container
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])


@pytest.mark.parametrize("name", CASES)
def test_only_the_runner_has_a_token_of_the_cluster(name: str) -> None:
    assert pod_of(job(name))["automountServiceAccountToken"] is (name == "pipeline")


@pytest.mark.parametrize("name", CASES)
def test_keys_are_references_to_a_secret(name: str) -> None:
    found = environment_of(job(name))

    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert found[key] == {"secretKeyRef": {"name": "hbseg-s3", "key": key}}
    assert found["AWS_SESSION_TOKEN"]["secretKeyRef"]["optional"] is True


def test_workload_identity_needs_no_secret() -> None:
    with_account = placed(credentials_secret=None, service_account="trainer")
    manifest = job_objects(STAGE1, with_account)[-1]

    assert not any(name.startswith("AWS_ACCESS") for name in environment_of(manifest))
    assert pod_of(manifest)["serviceAccountName"] == "trainer"


# What a job is.


@pytest.mark.parametrize("name", [*TRAININGS, *BATCH])
def test_a_job_says_whose_it_is_and_of_what(name: str) -> None:
    of, _ = (TRAININGS | BATCH)[name]
    config, manifest = rendered(name)
    metadata = manifest["metadata"]

    expected = {
        "app.kubernetes.io/part-of": "hbseg",
        "app.kubernetes.io/managed-by": "hbseg",
        "hbseg.io/run": "main",
        "hbseg.io/step": str(of.step),
    }
    task = {"hbseg.io/task": of.task_name}
    assert config["metadata"]["labels"] == expected
    assert template_of(manifest)["metadata"]["labels"] == expected | task
    assert expected.items() | task.items() <= metadata["labels"].items()
    annotations = metadata["annotations"]
    assert annotations["hbseg.io/spec-hash"] == of.spec.digest()
    assert annotations["hbseg.io/prefix"] == of.prefix
    assert (annotations["hbseg.io/runs"], annotations["hbseg.io/data"]) == (of.runs, of.data)
    assert json.loads(annotations["hbseg.io/placement"])["image"] == PROFILE.image
    assert annotations["hbseg.io/pending-timeout"] == "600"


@pytest.mark.parametrize("name", [*TRAININGS, *BATCH])
def test_a_pod_gets_its_spec_from_an_immutable_object_with_its_digest(name: str) -> None:
    of, _ = (TRAININGS | BATCH)[name]
    config, manifest = rendered(name)

    assert config["immutable"] is True
    assert config["metadata"]["name"] == f"hbseg-spec-{of.spec.digest()[:12]}"
    kind = type(of.spec)
    assert kind.from_text(config["data"]["spec.yaml"], source="x").digest() == of.spec.digest()
    volumes = {volume["name"]: volume for volume in pod_of(manifest)["volumes"]}
    assert volumes["spec"]["configMap"]["name"] == config["metadata"]["name"]


@pytest.mark.parametrize("name", [*TRAININGS, *BATCH])
def test_a_pod_runs_the_launcher_with_the_steps_arguments(name: str) -> None:
    of, placement = (TRAININGS | BATCH)[name]
    container = container_of(job(name))
    own, step = split(container["args"])

    assert container["command"] == ["python", "-m", "hbseg_jobs.launch"]
    assert step == of.arguments(spec_file="/etc/hbseg/spec.yaml", work="/scratch/work")
    assert {type(argument) for argument in container["args"]} == {str}
    assert own[:3] == ["--in-pod", "--job", "/scratch/job"]
    flags = dict(zip(own[3::2], own[4::2], strict=True))
    assert flags["--grace"] == str(placement.cluster.termination_grace)
    assert int(flags["--grace"]) == pod_of(job(name))["terminationGracePeriodSeconds"]
    told = Placement.model_validate_json(flags["--placement"])
    pods = told.nodes if of.step not in TRAINING else 1  # those of a training fail together
    assert told.retries == placement.retries * pods
    assert told.processes_per_node == placement.processes_per_node


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    middle = arguments.index("--")
    return arguments[:middle], arguments[middle + 1 :]


def test_nodes_wait_for_each_other_as_long_as_they_may_be_pending() -> None:
    of, placement = TRAININGS["train-2x4"]
    patient = placement.model_copy(update={"pending_timeout": 3600.5})

    def settings(place: Placement) -> list[dict[str, str]]:
        found: list[dict[str, str]] = job_objects(of, place)[1]["spec"]["elasticPolicy"]["rdzvConf"]
        return found

    assert settings(placement) == [{"key": "join_timeout", "value": "600"}]
    assert settings(patient) == [{"key": "join_timeout", "value": "3601"}]


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
        "ephemeral-storage": "50Gi",
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
    assert pod["volumes"][-1] == {"name": "claim-0", "persistentVolumeClaim": claim}
    mount = {"name": "claim-0", "mountPath": "/venv", "readOnly": True}
    assert container["volumeMounts"][-1] == mount


def test_a_profiles_environment_comes_last_and_only_once() -> None:
    found = environment_of(
        job_objects(STAGE1, placed(2, environment={"GLOO_SOCKET_IFNAME": "net1"}))[-1]
    )
    assert found["GLOO_SOCKET_IFNAME"] == "net1"

    with pytest.raises(SpecError, match=r"cluster\.environment sets HBSEG_NODE"):
        job_objects(STAGE1, placed(environment={"HBSEG_NODE": "7"}))


def test_two_volumes_at_one_place_are_refused() -> None:
    with pytest.raises(SpecError, match=r"main-stage1: two volumes are mounted at /scratch"):
        job_objects(STAGE1, placed(volumes=(Volume(claim="a", path="/scratch"),)))


def test_kubernetes_puts_no_variable_into_an_argument() -> None:
    raw = call(Step.PREPARE, "prepare", PrepareSpec(), ("--raw", "s3://team/$(HOME)"))
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

    assert storage_of(local) == ["s3://team/runs", "s3://team/data", "/pictures"]
    with pytest.raises(UsageError, match="do not see the folder /pictures;"):
        check_storage(storage_of(local), PROFILE)
    mounted = PROFILE.model_copy(update={"volumes": (volume,)})
    check_storage(["/pictures/a", "s3://bucket/a"], mounted)
    with pytest.raises(UsageError, match="do not see the folder /picturesque;"):
        check_storage(["/pictures/a", "/picturesque"], mounted)


# YAML.


HEX = st.from_regex(r"[0-9]{1,6}e[0-9]{1,8}", fullmatch=True)
NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)


@settings(deadline=None, max_examples=30)
@given(version=HEX, run=NAMES, key=HEX)
def test_every_reader_gets_the_strings_that_were_meant(version: str, run: str, key: str) -> None:
    spec = TrainSpec.from_mapping(
        {"model": {}, "dataset": {"version": version}, "run": {"seed": 1}}, source="x"
    )
    inputs = {"dataset": version}
    of = StepCall(run, Step.STAGE1, "stage1", spec, "s3://a", "s3://b", inputs, (key,))
    environment = ClusterProfile(environment={"A": key})
    objects = job_objects(of, Placement(cluster=environment))

    text = "---\n".join(dump_yaml(manifest) for manifest in objects)

    assert list(yaml.safe_load_all(text)) == objects
    for scalar in plain_scalars(text):
        assert not scalar[:1].isdigit() or scalar.isdigit() or scalar in ("true", "false"), scalar


def plain_scalars(text: str) -> Iterator[str]:
    """Yield the values that stand without quotes: a reader of YAML 1.2 decides what they are."""
    for event in yaml.parse(text):
        if isinstance(event, yaml.ScalarEvent) and event.style is None:
            yield event.value


@settings(deadline=None, max_examples=15)
@given(run=NAMES, key=st.from_regex(r"[0-9a-f]{12}", fullmatch=True))
def test_every_run_name_makes_manifests_without_problems(run: str, key: str) -> None:
    for of, placement in (TRAININGS | BATCH).values():
        head, slash, _ = of.prefix.partition("/")
        prefix = f"{head}/{key}" if slash else head
        renamed = StepCall(run, of.step, prefix, of.spec, of.runs, of.data, of.inputs, of.extra)
        assert len(job_objects(renamed, placement)) == 2
