"""Each rule, by a manifest that is good but for one thing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from hbseg.cluster.base_manifest import load_manifest
from hbseg.cluster.rendering.lint import problems
from hbseg.config.profile import ClusterProfile
from tests.unit.cluster.rendering.cases import job

Manifest = dict[str, Any]
Break = Callable[[Manifest], object]


def replica_of(job: Manifest) -> Manifest:
    (replica,) = job["spec"]["pytorchReplicaSpecs"].values()
    found: Manifest = replica
    return found


def pod_of(job: Manifest) -> Manifest:
    template = job["spec"]["template"] if job["kind"] == "Job" else replica_of(job)["template"]
    pod: Manifest = template["spec"]
    return pod


def container_of(job: Manifest) -> Manifest:
    container: Manifest = pod_of(job)["containers"][0]
    return container


def named(name: str) -> Break:
    return lambda job: job["metadata"].update(name=name)


def with_both_roles(job: Manifest) -> None:
    replicas = job["spec"]["pytorchReplicaSpecs"]
    replicas["Worker"] = {**replicas["Master"], "replicas": 1}


def with_shared_memory(size: str | None) -> Break:
    def change(job: Manifest) -> None:
        (volume,) = [v for v in pod_of(job)["volumes"] if v["name"] == "shm"]
        volume["emptyDir"]["sizeLimit"] = size

    return change


def with_variable(name: str, value: object) -> Break:
    return lambda job: container_of(job)["env"].append({"name": name, "value": value})


def with_policy(**values: object) -> Break:
    return lambda job: job["spec"]["runPolicy"].update(values)


TRAIN: list[tuple[str, Break, str]] = [
    ("capital", named("Main"), "name 'Main' is not a letter"),
    ("digit first", named("1-main"), "name '1-main' is not a letter"),
    ("no name", named(""), "name '' is not a letter"),
    ("long", named("x" * 51), "name has 51 characters, a PyTorchJob may have 50"),
    (
        "long pod",
        lambda job: (named("x" * 50)(job), replica_of(job).update(replicas=10**6)),
        "pod name x.*-999999 has 64 characters",
    ),
    (
        "label",
        lambda job: job["metadata"]["labels"].update({"hbseg.io/task": "x" * 64}),
        "label hbseg.io/task is",
    ),
    (
        "label is a number",
        lambda job: job["metadata"]["labels"].update({"hbseg.io/run": 7}),
        "label hbseg.io/run is 7",
    ),
    ("auto", lambda job: job["spec"].update(nprocPerNode="auto"), "nprocPerNode is 'auto'"),
    ("number", lambda job: job["spec"].update(nprocPerNode=4), "nprocPerNode is 4, .* in quotes"),
    ("no clean-up", lambda job: job["spec"].update(runPolicy={}), "cleanPodPolicy is None"),
    ("keeps pods", with_policy(cleanPodPolicy="None"), "cleanPodPolicy is 'None'"),
    ("unknown policy", with_policy(cleanPodPolicy="running"), "cleanPodPolicy is 'running'"),
    ("backoff", with_policy(backoffLimit=3), "backoffLimit with ExitCode"),
    ("ttl", with_policy(ttlSecondsAfterFinished=60), "ttlSecondsAfterFinished with ExitCode"),
    ("deadline", with_policy(activeDeadlineSeconds=60), "activeDeadlineSeconds"),
    (
        "restart",
        lambda job: replica_of(job).update(restartPolicy="Sometimes"),
        "restartPolicy of .* is 'Sometimes'",
    ),
    ("none", lambda job: replica_of(job).update(replicas=0), "has 0 replicas, expected at least 1"),
    (
        "role",
        lambda job: job["spec"].update(pytorchReplicaSpecs={"Chief": replica_of(job)}),
        r"replicas are \['Chief'\]",
    ),
    ("no role", lambda job: job["spec"].update(pytorchReplicaSpecs={}), r"replicas are \[\]"),
    (
        "container",
        lambda job: container_of(job).update(name="main"),
        r"containers are \['main'\], expected the first to be called pytorch",
    ),
]
ONE_NODE: list[tuple[str, Break, str]] = [
    ("two masters", lambda job: replica_of(job).update(replicas=2), "Master has 2 replicas"),
    ("no number", lambda job: replica_of(job).pop("replicas"), "Master has None replicas"),
    ("both", with_both_roles, "Master and Worker together"),
]
ELASTIC: list[tuple[str, Break, str]] = [
    ("not elastic", lambda job: job["spec"].pop("elasticPolicy"), "need an elasticPolicy"),
    (
        "probe",
        lambda job: container_of(job).update(readinessProbe={}),
        "readinessProbe in an elastic job",
    ),
]
POD: list[tuple[str, Break, str]] = [
    ("image", lambda job: container_of(job).update(image=" "), "image of the container .* empty"),
    ("twice", with_variable("HOME", "/"), "environment variable HOME stands twice"),
    ("number", with_variable("A", 1), "environment variable A is 1, expected text"),
    ("secret name", with_variable("DB_PASSWORD", "x"), "DB_PASSWORD looks like a secret"),
    ("secret token", with_variable("HF_TOKEN", "x"), "HF_TOKEN looks like a secret"),
    ("key", with_variable("A", "AKIA" + "Z" * 16), "A looks like a secret"),
    ("password", with_variable("A", "https://me:x@host"), "A looks like a secret"),
    ("memory", with_shared_memory("20Gi"), "volume shm may take 20Gi of the memory"),
    ("unbounded", with_shared_memory(None), "volume shm may take all of the memory"),
    (
        "place",
        lambda job: container_of(job)["volumeMounts"].append({"name": "tmp", "mountPath": "/tmp/"}),
        "two volumes are mounted at /tmp",
    ),
    ("volume", lambda job: pod_of(job)["volumes"].pop(), "volume shm is mounted at /dev/shm and"),
]
BATCH: list[tuple[str, Break, str]] = [
    ("long", named("x" * 58), "name has 58 characters, a batch Job may have 57"),
    (
        "long index",
        lambda job: (named("x" * 57)(job), job["spec"].update(completions=10**6 + 1)),
        "pod name x.*-1000000 has 65 characters",
    ),
    ("restart", lambda job: pod_of(job).update(restartPolicy="OnFailure"), "needs Never"),
    (
        "container",
        lambda job: container_of(job).update(name="pytorch"),
        "podFailurePolicy looks at the container step",
    ),
]
CASES = [
    *(("train.yaml", *case) for case in [*TRAIN, *ONE_NODE]),
    *(("train-elastic.yaml", *case) for case in [*TRAIN, *ELASTIC]),
    *(("infer", *case) for case in [*BATCH, *POD]),
    *(("train.yaml", *case) for case in POD),
]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [pytest.param(n, c, m, id=f"{n}: {what}") for n, what, c, m in CASES],
)
def test_a_rule_finds_what_is_broken(name: str, change: Break, message: str) -> None:
    manifest = load_manifest(name) if name.endswith(".yaml") else job(name)
    assert problems(manifest) == []

    change(manifest)
    found = problems(manifest)

    assert any(re.search(message, problem) for problem in found), found


def test_an_unknown_kind_is_only_asked_for_its_name() -> None:
    assert problems({"kind": "Secret", "metadata": {"name": "hbseg"}}) == []
    (problem,) = problems({"kind": "Secret", "metadata": {}})
    assert problem == "name '' is not a letter, then a-z, 0-9 and -"


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_a_name_that_only_sounds_like_a_secret_is_none(name: str) -> None:
    assert ClusterProfile(environment={name: "x"}).environment == {name: "x"}
