"""What a cluster's profile says about folders and secrets."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hbseg.config.kubernetes_types import given
from hbseg.config.pod_profile import CaBundle, PodProfile, Scratch, Toleration, Volume
from hbseg.config.profile import ClusterProfile, ImageKind, PodGroup, laid
from hbseg.config.settings import SettingsFile
from hbseg.errors import SpecError

PROFILE = ClusterProfile(volumes=(Volume(claim="hands", path="/pictures"),))


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("s3://bucket/pictures", True),
        ("/pictures", True),
        ("/pictures/raw", True),
        ("/picturesque", False),
        ("/", False),
        ("/home/me/pictures", False),
    ],
)
def test_pods_see_s3_and_what_lies_below_their_volumes(url: str, seen: bool) -> None:
    assert PROFILE.sees(url) == seen
    assert ClusterProfile().sees(url) == url.startswith("s3://")


def test_a_secret_in_the_environment_is_refused_with_the_key_that_takes_it() -> None:
    with pytest.raises(ValidationError, match=r"secret_environment: \{WANDB_API_KEY: \{secret: S"):
        ClusterProfile(environment={"WANDB_API_KEY": "abcdef0123456789"})
    with pytest.raises(ValidationError, match="NOTE looks like a secret") as refused:
        ClusterProfile(environment={"NOTE": "ghp_" + "a1" * 18})
    assert "a1a1" not in str(refused.value.errors()[0]["msg"])

    ClusterProfile(environment={"HF_TOKEN_PATH": "/etc/hf/token", "HF_HUB_DISABLE_TELEMETRY": "1"})


# Layers of profiles.


def test_blocks_and_mappings_are_laid_key_by_key_and_all_else_as_a_whole() -> None:
    base = ClusterProfile(
        environment={"A": "1", "B": "2"},
        scratch=Scratch(size="9Gi", storage_class="fast"),
        tolerations=(Toleration(key="a"),),
        volumes=(Volume(claim="a", path="/a"),),
    )
    over = ClusterProfile(
        environment={"B": None, "C": "3"}, scratch=Scratch(size="1Gi"), tolerations=()
    )

    found = laid(base, over)

    assert given(found.environment) == {"A": "1", "C": "3"}
    assert found.scratch == Scratch(size="1Gi", storage_class="fast")
    assert (found.tolerations, found.volumes) == ((), base.volumes)


def test_a_step_comes_before_its_group_and_that_before_all() -> None:
    profile = ClusterProfile.model_validate(
        {
            "image": "all:1",
            "tensorrt_image": "rt:1",
            "cpu_per_process": 2,
            "steps": {
                "others": {"image": "others:1", "scratch": "7Gi"},
                "infer": {"image": "infer:1", "environment": {"A": "1"}},
            },
        }
    )

    def images(group: PodGroup, step: str) -> list[str | None]:
        found = profile.for_pods(group, step)
        return [found.image_of(ImageKind.TRAIN), found.image_of(ImageKind.TENSORRT)]

    infer = profile.for_pods(PodGroup.OTHERS, "infer")
    assert images(PodGroup.TRAINING, "stage1") == ["all:1", "rt:1"]
    assert images(PodGroup.OTHERS, "report") == ["others:1", "others:1"]
    assert images(PodGroup.OTHERS, "infer") == ["infer:1", "infer:1"]
    assert (infer.scratch.size, infer.environment) == ("7Gi", {"A": "1"})
    assert infer.cpu_per_process == "2"


def test_steps_without_gpus_ask_for_less_unless_the_profile_says_how_much() -> None:
    assert ClusterProfile().for_pods(PodGroup.TRAINING).memory_per_process == "16Gi"
    assert ClusterProfile().for_pods(PodGroup.OTHERS).memory_per_process == "8Gi"
    said = ClusterProfile(memory_per_process="32Gi")
    assert said.for_pods(PodGroup.OTHERS).memory_per_process == "32Gi"


def test_devices_are_for_trainings_unless_a_group_names_them() -> None:
    profile = ClusterProfile(devices={"vpc.amazonaws.com/efa": "4"}, rdma_resource="rdma/hca")

    others = profile.for_pods(PodGroup.OTHERS)

    assert profile.for_pods(PodGroup.TRAINING).devices == {"vpc.amazonaws.com/efa": "4"}
    assert (others.devices, others.rdma_resource) == ({}, None)


def test_the_runner_has_no_place_volumes_or_secrets_of_the_steps() -> None:
    place = {
        "node_selector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "priority_class": "training",
        "volumes": [{"claim": "sets", "path": "/data"}],
        "secret_environment": {"WANDB_API_KEY": {"secret": "wandb", "key": "key"}},
        "memory_per_process": "64Gi",
        "gpu_runtime_class": "nvidia",
        "pod_overrides": {"spec": {"hostname": "x"}},
    }
    kept = {
        "queue": "team-a",
        "labels": {"team": "vision"},
        "environment": {"HTTPS_PROXY": "http://proxy.example:3128"},
        "credentials_secret": "hbseg-s3",
    }
    profile = ClusterProfile.model_validate(place | kept)

    runner = profile.for_pods(PodGroup.RUNNER)

    fresh = ClusterProfile()
    for name in place.keys() - {"memory_per_process"}:
        assert getattr(runner, name) == getattr(fresh, name), name
    assert runner.memory_per_process == "512Mi"
    for name in kept:
        assert getattr(runner, name) == getattr(profile, name), name
    placed = profile.model_copy(update={"steps": {"runner": PodProfile(node_selector={"a": "b"})}})
    assert placed.for_pods(PodGroup.RUNNER).node_selector == {"a": "b"}


def test_certificates_of_two_layers_are_not_mixed() -> None:
    base = ClusterProfile(ca_bundle=CaBundle(secret="theirs", key="k.crt"))

    found = laid(base, ClusterProfile(ca_bundle=CaBundle(config_map="mine")))

    assert found.ca_bundle == CaBundle(config_map="mine")


def test_a_wrong_value_that_may_be_a_secret_is_not_shown() -> None:
    with pytest.raises(SpecError) as refused:
        SettingsFile.from_mapping(
            {"cluster": {"secret_environment": {"WANDB_API_KEY": "abcdefsecret"}}}, source="x"
        )
    assert "abcdefsecret" not in refused.value.message
    assert "cluster.secret_environment.WANDB_API_KEY: expected keys and" in refused.value.message


# What is refused.


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"volumes": [{"claim": "c", "path": "/"}]}, "/ would hide files of /bin"),
        ({"volumes": [{"claim": "c", "path": "/dev"}]}, "/dev would hide files of /dev"),
        ({"volumes": [{"claim": "c", "path": "/usr/lib/python3"}]}, "would hide files of /usr/lib"),
        ({"volumes": [{"claim": "c", "path": "/etc/hbseg/x"}]}, "would hide files of /etc/hbseg"),
        ({"volumes": [{"claim": "c", "path": "/a/../b"}]}, "expected an absolute path"),
        ({"volumes": [{"claim": "c", "path": "/a", "sub_path": "../b"}]}, "expected a relative"),
        ({"volumes": [{"path": "/a"}]}, "expected one of claim, config_map, secret, found none"),
        ({"volumes": [{"claim": "c", "secret": "s", "path": "/a"}]}, "found claim and secret"),
        ({"image": "an image"}, "cluster.image: "),
        ({"shared_memory": "0"}, "expected more than 0, found 0"),
        ({"scratch": "0.0Gi"}, "expected more than 0, found 0.0Gi"),
        ({"limits": {"cpu": "many"}}, "cluster.limits.cpu: "),
        ({"environment": {"WORLD_SIZE": "2"}}, "WORLD_SIZE is set for the launcher"),
        ({"environment": {"PET_NNODES": "2"}}, "PET_NNODES is set for the launcher"),
        ({"environment": {"LD_PRELOAD": "x"}}, "LD_PRELOAD is set for the launcher"),
        ({"environment": {"HBSEG_NODE": "1"}}, "HBSEG_NODE is set for the launcher"),
        ({"secret_environment": {"HOME": {"secret": "s", "key": "k"}}}, "HOME is set for"),
        ({"environment": {"A B": "x"}}, "'A B' is no name of an environment variable"),
        ({"environment": {"DB_PASSWORD": "x"}}, "set cluster.secret_environment: {DB_PASSWORD: "),
        ({"labels": {"hbseg.io/run": "x"}}, "hbseg.io/run is set by hbseg or a controller"),
        ({"labels": {"app.kubernetes.io/name": "x"}}, "app.kubernetes.io/name is set by hbseg"),
        ({"labels": {"team": "a b"}}, "label team is 'a b'"),
        ({"annotations": {"training.kubeflow.org/x": "y"}}, "training.kubeflow.org/x is set by"),
        ({"ca_bundle": {"key": "x"}}, "expected one of config_map, secret, found none"),
        ({"volumes": [{"claim": "c", "path": "//etc/hbseg"}]}, "would hide files of /etc/hbseg"),
        ({"volumes": [{"claim": "c", "path": "/opt"}]}, "/opt would hide files of /opt/hbseg"),
        ({"environment": {"USER": "bob"}}, "USER is set for the launcher"),
        ({"environment": {"HBSEG_RUNS": "s3://a/b"}}, "HBSEG_RUNS is set for the launcher"),
        ({"labels": {"kueue.x-k8s.io/queue-name": "a"}}, "kueue.x-k8s.io/queue-name is set by"),
        ({"tolerations": [{}]}, "operator Equal needs a key"),
        ({"tolerations": [{"operator": "Exists", "value": "x"}]}, "operator Exists has no value"),
        ({"tolerations": [{"key": "a", "tolerationSeconds": 1}]}, "needs effect: NoExecute"),
        ({"spread_over": "bad key!"}, "'bad key!' is no key"),
        ({"image_pull_secrets": "regcred"}, "cluster.image_pull_secrets: expected a list"),
        ({"steps": {"training": None}}, "cluster.steps.training: expected keys and values"),
        ({"steps": {"infer": {"imge": "x"}}}, "unknown key cluster.steps.infer.imge; did you mean"),
        ({"steps": {"infer": {"s3_endpoint": "x"}}}, "unknown key cluster.steps.infer.s3_endpoint"),
        ({"s3_addressing": "host"}, "cluster.s3_addressing: "),
        ({"run_as_user": 0}, "cluster.run_as_user: "),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_key(
    profile: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as refused:
        SettingsFile.from_mapping({"cluster": profile}, source="hbseg.yaml")

    assert message in refused.value.message
    assert "\n" not in refused.value.message
    assert "cluster." in refused.value.message


@pytest.mark.parametrize(
    "profile",
    [
        {"cpu_per_process": 2},
        {"termination_grace": 20},
        {"tolerations": [{"key": "a", "effect": "NoExecute", "tolerationSeconds": 60}]},
        {"run_as_user": None},
        {"volumes": [{"secret": "gcp", "path": "/etc/gcp"}, {"claim": "c", "path": "/tmp/c"}]},
        {"labels": {"team": "vision"}, "node_selector": {"nvidia.com/gpu.product": "H100"}},
        {"devices": {"vpc.amazonaws.com/efa": 32, "hugepages-2Mi": "5120Mi"}},
    ],
)
def test_what_real_clusters_have_is_taken(profile: dict[str, Any]) -> None:
    SettingsFile.from_mapping({"cluster": profile}, source="hbseg.yaml")
