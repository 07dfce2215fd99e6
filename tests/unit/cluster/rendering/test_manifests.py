"""What all manifests are: the golden files, their shape, their security."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hbseg.cluster.base_manifest import load_manifest
from hbseg.cluster.rendering.lint import problems
from hbseg.cluster.rendering.manifests import (
    job_objects,
    runner_objects,
)
from hbseg.config.placement import Placement
from hbseg.documents import dump_yaml
from tests.unit.cluster.rendering import profiles
from tests.unit.cluster.rendering.cases import (
    BATCH,
    CASES,
    COMPILE,
    GOLDEN,
    PLAIN,
    PROFILE,
    STAGE1,
    STEPS,
    TRAININGS,
    Manifest,
    container_of,
    environment_of,
    job,
    placed,
    pod_of,
    rendered,
    split,
    template_of,
)

# Golden files: what a person would send, as it is sent.


GOLDEN_FILES: dict[str, Callable[[], list[Manifest]]] = {
    **{name: partial(rendered, name) for name in CASES},
    **{f"profile-{name}": partial(profiles.rendered, name) for name in profiles.PROFILES},
}
"""What is rendered into each file."""


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_manifests_are_those_of_the_golden_file(name: str) -> None:
    """`HBSEG_GOLDEN=write` writes the files again."""
    path = GOLDEN / f"{name}.yaml"
    text = "---\n".join(dump_yaml(manifest) for manifest in GOLDEN_FILES[name]())
    if os.environ.get("HBSEG_GOLDEN") == "write":
        assert not os.environ.get("CI"), "golden files are never written in CI"
        path.write_text(text)
    assert path.read_text() == text


def test_every_golden_file_has_its_case() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == sorted(GOLDEN_FILES)


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
    manifest = load_manifest(name)

    assert problems(manifest) == []
    assert manifest["metadata"]["labels"]["app.kubernetes.io/part-of"] == "hbseg"


@pytest.mark.parametrize("name", [*STEPS, "pipeline.yaml"])
def test_a_plain_manifest_is_what_is_rendered_but_for_values(name: str) -> None:
    """Nothing is added that the plain file does not show, where the profile asks for nothing."""
    bare = Placement(processes_per_node=4, nodes=2 if name == "train-elastic.yaml" else 1)
    whole = (
        runner_objects("main", {}, {}, bare, owner="alice")
        if name == "pipeline.yaml"
        else job_objects(COMPILE if name == "step.yaml" else STAGE1, bare)
    )[-1]
    whole["metadata"].pop("annotations")

    assert keys_of(whole) == keys_of(load_manifest(name))


def keys_of(value: Any, path: str = "") -> set[str]:
    """Paths of all keys, with the names of list items instead of their numbers."""
    if isinstance(value, dict):
        return {path} | {p for k, v in value.items() for p in keys_of(v, f"{path}.{k}")}
    if isinstance(value, list):
        named = [(item.get("name", "") if isinstance(item, dict) else "", item) for item in value]
        return {p for name, item in named for p in keys_of(item, f"{path}[{name}]")}
    return {path}


def test_the_pods_of_all_steps_have_one_shape() -> None:
    """So that nearly equal files do not drift apart."""
    shapes = {name: shape_of(load_manifest(name)) for name in STEPS}

    first = shapes.pop("train.yaml")
    for name, shape in shapes.items():
        assert shape == first, name


def shape_of(manifest: Manifest) -> Manifest:
    """A pod without what makes a step another one: command line, number of pods, sizes, devices."""
    pod = pod_of(manifest)
    pod.pop("restartPolicy", None)  # the operator sets that of a PyTorchJob's pods
    container = container_of(manifest)
    for name in ("name", "args", "resources"):
        container.pop(name)
    for volume in pod["volumes"]:
        volume.get("emptyDir", {}).pop("sizeLimit", None)
    own = ("HBSEG_NODE", "HBSEG_NODES", "GLOO_SOCKET_IFNAME")
    container["env"] = [v for v in container["env"] if v["name"] not in own]
    return pod


def test_the_runners_pod_has_the_same_security_and_less_of_the_rest() -> None:
    runner, step = pod_of(load_manifest("pipeline.yaml")), pod_of(load_manifest("step.yaml"))

    assert runner["securityContext"] == step["securityContext"]
    for name in ("securityContext", "terminationMessagePolicy", "imagePullPolicy"):
        assert runner["containers"][0][name] == step["containers"][0][name]
    assert "shm" not in {volume["name"] for volume in runner["volumes"]}


# The `restricted` Pod Security standard.


@pytest.mark.parametrize("name", [*CASES, *(n for n in PLAIN if n != "spec.yaml")])
def test_every_pod_passes_the_restricted_standard(name: str) -> None:
    manifest = load_manifest(name) if name.endswith(".yaml") else job(name)
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
        "app.kubernetes.io/name": "hbseg",
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
    pods = told.nodes if not of.step.row.torchrun else 1  # those of a training fail together
    assert told.retries == placement.retries * pods
    assert told.processes_per_node == placement.processes_per_node
