"""Wrong values are refused by schema or template, in words that name the key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hbseg.config.profile import ClusterProfile
from tests.helm import Helm, HelmFailed

S3 = [{"cidr": "10.0.0.0/8"}]


def refusal(helm: Helm, *words: str, **values: Any) -> str:
    """Return what helm says of values that it must refuse."""
    with pytest.raises(HelmFailed) as caught:
        helm.template(*words, **values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"networkPolicy": {"enabled": True}}, "networkPolicy.s3 is empty, so no pod"),
        (
            {"networkPolicy": {"enabled": True, "s3": [*S3, {"port": 9000}]}},
            "networkPolicy.s3[1] has no address: give cidr, namespaceSelector or podSelector",
        ),
        (
            {"networkPolicy": {"enabled": True, "s3": [S3[0] | {"podSelector": {}}]}},
            "networkPolicy.s3[0] has cidr and a selector: make two entries of it",
        ),
        ({"localQueue": {"create": True}}, "localQueue.clusterQueue is empty: name"),
        (
            {"serviceAccounts": {"steps": {"name": "a"}, "runner": {"name": "a"}}},
            "serviceAccounts.steps.name and serviceAccounts.runner.name are both a, so steps",
        ),
        (
            {"profile": {"service_account": "own"}},
            "profile.service_account is own, and serviceAccounts.steps.name says hbseg-steps: "
            "take profile.service_account out, or set serviceAccounts.steps.name to own",
        ),
        (
            {"profile": {"credentials_secret": "a"}, "credentials": {"existingSecret": "b"}},
            "profile.credentials_secret is a, and credentials.existingSecret says b",
        ),
        (
            {
                "profile": {"volumes": [{"claim": "a", "path": "/cache"}]},
                "cache": {"enabled": True},
            },
            "cache.path is /cache, where profile.volumes mounts another volume: choose another",
        ),
        (
            {"commonLabels": {"app.kubernetes.io/name": "a"}},
            "commonLabels: app.kubernetes.io/name is a label of the chart's own: use a key",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_line(
    helm: Helm, values: dict[str, Any], told: str
) -> None:
    lines = refusal(helm, **values).splitlines()

    (line,) = (line for line in lines if told in line)
    assert "hbseg/templates/validate.yaml" in line


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"cache": {"size": "big"}}, "/cache/size"),
        ({"cache": {"accessModes": ["Many"]}}, "/cache/accessModes/0"),
        ({"cache": {"path": "cache"}}, "/cache/path"),
        ({"rbac": {"users": [{"kind": "Team", "name": "a"}]}}, "/rbac/users/0/kind"),
        ({"rbac": {"users": [{"kind": "User"}]}}, "'name'"),
        ({"networkPolicy": {"apiServer": {"ports": [70000]}}}, "/networkPolicy/apiServer/ports/0"),
        ({"networkPolicy": {"enabled": "yes"}}, "/networkPolicy/enabled"),
        ({"commonLabels": {"a": 1}}, "/commonLabels/a"),
        ({"credentials": {"existingSecret": "A B"}}, "/credentials/existingSecret"),
        ({"global": {"imagePullSecrets": [{"names": "a"}]}}, "/global/imagePullSecrets/0"),
        ({"doctor": {"timeout": 0}}, "/doctor/timeout"),
        ({"profile": {"gpus_per_process": 17}}, "/profile/gpus_per_process"),
        ({"profile": {"keep_finished": "long"}}, "/profile/keep_finished"),
        ({"profile": {"image_pull_policy": "Sometimes"}}, "/profile/image_pull_policy"),
        ({"profile": {"volumes": [{"path": "/a", "claims": "b"}]}}, "/profile/volumes/0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(
    helm: Helm, values: dict[str, Any], told: str
) -> None:
    assert told in refusal(helm, **values)


@pytest.mark.parametrize(
    ("values", "unknown", "near"),
    [
        ({"profil": {}}, "profil", "profile"),
        ({"networkPolicy": {"s4": []}}, "s4", "s3"),
        ({"serviceAccounts": {"step": {}}}, "step", "steps"),
        ({"profile": {"gpu_per_process": 1}}, "gpu_per_process", "gpus_per_process"),
    ],
)
def test_an_unknown_key_is_refused_beside_those_that_are_known(
    helm: Helm, values: dict[str, Any], unknown: str, near: str
) -> None:
    told = refusal(helm, **values)

    assert f"'{unknown}' not allowed" in told
    (line,) = (line for line in told.splitlines() if "under one of the keys" in line)
    assert f"/{unknown}'" in line
    assert f" {near}" in line


def test_an_old_cluster_is_refused(helm: Helm) -> None:
    told = refusal(helm, "--kube-version", "1.28.0")

    assert ">=1.29.0" in told
    helm.template("--kube-version", "1.29.3-eks-1234567")


@pytest.mark.parametrize(
    "profile",
    [
        {"cpu_per_process": 2, "memory_per_process": "16Gi", "shared_memory": 1.5},
        {"run_as_user": None},
        {"run_as_user": 0},
        {"scratch": "20Gi"},
        {"scratch": {"size": "20Gi", "storage_class": "fast"}},
        {"scratch": {"sizes": "20Gi"}},
        {"tolerations": [{"operator": "Exists", "tolerationSeconds": 60}]},
        {"tolerations": [{"operator": "exists"}]},
        {"steps": {"training": {"node_selector": {"pool": "gpu", "zone": None}}}},
        {"steps": {"training": {"node_selectors": {}}}},
        {"limits": {"cpu": "request"}},
        {"pod_overrides": {"spec": {"hostNetwork": True}}, "unrestricted": True},
        {"environment": {"A": 1}},
        {"volumes": [{"secret": "gcp", "path": "/etc/gcp", "sub_path": "a"}]},
        {"secret_environment": {"WANDB_API_KEY": {"secret": "wandb", "key": "key"}}},
        {"secret_environment": {"WANDB_API_KEY": {"secret": "wandb"}}},
        {"keep_finished": 604800.5},
        {"image": "a b"},
    ],
    ids=str,
)
def test_the_schema_takes_of_a_profile_what_hbseg_takes(
    helm: Helm, profile: dict[str, Any]
) -> None:
    try:
        ClusterProfile.model_validate(profile)
    except ValidationError:
        refusal(helm, profile=profile)
    else:
        helm.template(profile=profile)
