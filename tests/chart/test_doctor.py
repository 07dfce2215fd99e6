"""The pod of `helm test` is given what hbseg gives the runner of a chain."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hbseg.cluster.rendering.manifests import runner_objects
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from tests.helm import NAMESPACE, Helm, Object
from tests.unit.cluster.rendering.profiles import FOLDER, PROFILES

OWN = {
    "labels": {"team": "vision", "cost": "1"},
    "annotations": {"sidecar.istio.io/inject": "false"},
    "environment": {"HTTPS_PROXY": "http://proxy:3128", "A": "1", "B": "$(C)"},
    "s3_region": "eu-central-1",
    "s3_checksums": "when_supported",
    "s3_addressing": "virtual",
    "ca_bundle": {"secret": "ca"},
    "image_pull_policy": "Always",
    "volumes": [{"claim": "sets", "path": "/sets"}],
    "secret_environment": {"WANDB_API_KEY": {"secret": "wandb", "key": "key"}},
    "node_selector": {"pool": "gpu"},
    "priority_class": "batch",
    "limits": {"ephemeral_storage": "4Gi"},
    "steps": {
        "runner": {
            "image": "runner:1",
            "labels": {"cost": None, "own": "yes"},
            "environment": {"A": None, "D": "4"},
            "secret_environment": {"TOKEN": {"secret": "t", "key": "k", "optional": True}},
            "volumes": [{"claim": "runs", "path": "/runs", "read_only": False, "sub_path": "a"}],
            "limits": {"cpu": "request"},
        },
        "training": {"environment": {"E": "5"}},
    },
}
"""A profile in which the runner differs from the steps in all that it may."""


def profile_of(name: str) -> dict[str, Any]:
    """Return an example of docs/profiles, or the profile above, with the images of both kinds."""
    own = OWN if name == "own" else yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["cluster"]
    return {"image": "train:1", "control_image": "control:1", **own}


def runner_of(profile: dict[str, Any]) -> Object:
    """Return the pod template of the runner that hbseg renders with the chart's profile."""
    placement = Placement(cluster=ClusterProfile.model_validate(profile))
    job = runner_objects("main", {}, {}, placement, owner="alice", namespace=NAMESPACE)[-1]
    template: Object = job["spec"]["template"]
    return template


def doctor_of(helm: Helm, profile: dict[str, Any]) -> Object:
    """Return the pod of the test, with the profile's account and Secret as the chart's."""
    names = {key: profile.get(key, "") for key in ("service_account", "runner_service_account")}
    accounts = {"steps": {"name": names["service_account"]}}
    accounts["runner"] = {"name": names["runner_service_account"]}
    return helm.rendered(profile=profile, serviceAccounts=accounts)["Pod", "hbseg-doctor"]


def variables_of(pod: Object) -> dict[str, Any]:
    """Return the environment of a pod but for what is the runner's alone; keys may be missing."""
    variables = pod["spec"]["containers"][0]["env"]
    found = {item["name"]: item.get("value", item.get("valueFrom")) for item in variables}
    for name in ("HOME", "USER", "PYTHONUNBUFFERED"):
        found.pop(name, None)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        found.get(name, {}).get("secretKeyRef", {}).pop("optional", None)
    return found


def volumes_of(pod: Object) -> dict[str, Any]:
    """Return what a pod mounts from the profile: sources and mounts by the volumes' names."""
    of_profile = [v for v in pod["spec"]["volumes"] if v["name"].startswith(("ca", "volume-"))]
    mounts = {mount["name"]: mount for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    return {volume["name"]: (volume, mounts[volume["name"]]) for volume in of_profile}


@pytest.mark.parametrize("name", [*PROFILES, "own"])
def test_the_doctor_has_image_environment_and_volumes_of_the_runner(helm: Helm, name: str) -> None:
    profile = profile_of(name)
    runner, doctor = runner_of(profile), doctor_of(helm, profile)

    ours, theirs = (pod["spec"]["containers"][0] for pod in (doctor, runner))
    assert variables_of(doctor) == variables_of(runner)
    assert volumes_of(doctor) == volumes_of(runner)
    for key in ("image", "imagePullPolicy", "securityContext"):
        assert ours[key] == theirs[key]
    for key in ("imagePullSecrets", "serviceAccountName", "automountServiceAccountToken"):
        assert doctor["spec"].get(key) == runner["spec"].get(key)
    rule = runner["spec"]["securityContext"]
    assert doctor["spec"]["securityContext"].items() <= rule.items()
    assert ours["resources"]["limits"].keys() == theirs["resources"]["limits"].keys()


@pytest.mark.parametrize("name", [*PROFILES, "own"])
def test_the_doctor_has_labels_and_annotations_of_the_runner(helm: Helm, name: str) -> None:
    profile = profile_of(name)
    runner, doctor = (pod["metadata"] for pod in (runner_of(profile), doctor_of(helm, profile)))

    own = {k: v for k, v in runner["labels"].items() if "hbseg" not in f"{k}{v}" and "/" not in k}
    assert own.items() <= doctor["labels"].items()
    assert runner.get("annotations", {}).items() <= doctor["annotations"].items()
    assert ("cost" in doctor["labels"]) == ("cost" in runner["labels"])
