"""Overrides of the pod template: what they merge, may not touch, and may not break."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hbseg.cluster.base_manifest import load_manifest
from hbseg.cluster.pods.overrides import override_lines, with_overrides
from hbseg.cluster.pods.restricted import restricted_problems
from hbseg.config.profile import ClusterProfile
from hbseg.errors import SpecError

Manifest = dict[str, Any]
SIDECAR: Manifest = {
    "name": "tail",
    "image": "images.example/tail:1",
    "restartPolicy": "Always",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}


def template() -> Manifest:
    found: Manifest = load_manifest("step.yaml")["spec"]["template"]
    return found


def overridden(overrides: Manifest, *, unrestricted: bool = False) -> Manifest:
    found = template()
    with_overrides(found, ClusterProfile(pod_overrides=overrides, unrestricted=unrestricted))
    return found


def of_main(**values: Any) -> Manifest:
    return {"spec": {"containers": [{"name": "main", **values}]}}


def test_no_override_changes_nothing() -> None:
    assert overridden({}) == template()


def test_mappings_are_merged_and_null_removes() -> None:
    overrides = {"spec": {"affinity": {"nodeAffinity": {"x": "y"}}, "enableServiceLinks": None}}
    found = overridden(overrides)

    assert found["spec"]["affinity"] == {"nodeAffinity": {"x": "y"}}
    assert "enableServiceLinks" not in found["spec"]
    rest = {k: v for k, v in found["spec"].items() if k != "affinity"}
    assert rest == {k: v for k, v in template()["spec"].items() if k != "enableServiceLinks"}


def test_items_of_lists_are_merged_by_their_identity() -> None:
    port, variable = {"containerPort": 9400}, {"name": "A", "value": "1"}
    found = overridden(of_main(ports=[port], env=[variable]))["spec"]["containers"]

    assert [item["name"] for item in found] == ["step"]
    assert found[0]["ports"] == [port]
    assert found[0]["env"] == [*template()["spec"]["containers"][0]["env"], variable]
    assert found[0]["image"] == template()["spec"]["containers"][0]["image"]


def test_a_sidecar_and_a_volume_may_be_added() -> None:
    volume = {"name": "sock", "emptyDir": {}}
    found = overridden({"spec": {"initContainers": [SIDECAR], "volumes": [volume]}})["spec"]

    assert found["initContainers"] == [SIDECAR]
    assert found["volumes"] == [*template()["spec"]["volumes"], volume]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (of_main(image="x"), "image of the container main is decided by hbseg"),
        (of_main(command=["sh"]), "command of the container main"),
        (of_main(args=[]), "args of the container main"),
        (of_main(resources={}), "resources of the container main"),
        (of_main(env=[{"name": "HOME", "value": "/"}]), "env of the container main: HOME is set"),
        (
            of_main(volumeMounts=[{"name": "x", "mountPath": "/scratch"}]),
            "volumeMounts of the container main: /scratch is set by hbseg",
        ),
        ({"spec": {"restartPolicy": "Always"}}, "spec.restartPolicy is decided by hbseg"),
        ({"spec": {"serviceAccountName": "x"}}, "spec.serviceAccountName is decided"),
        ({"spec": {"automountServiceAccountToken": True}}, "spec.automountServiceAccountToken"),
        ({"spec": {"volumes": [{"name": "scratch", "emptyDir": {}}]}}, "scratch is a volume of"),
        ({"spec": {"containers": None}}, "spec.containers: expected a list, found None"),
        ({"spec": {"containers": {"name": "x"}}}, "spec.containers: expected a list"),
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.containers: expected items with a name"),
        ({"spec": "x"}, "spec: expected keys and values, found 'x'"),
        ({"spec": {"$patch": "replace"}}, "spec.$patch: directives of patches are not known"),
        ({"spec": None}, "spec: cannot be taken out"),
        ({"specs": {}}, "unknown part specs; did you mean spec?"),
        ({"metadata": {"name": "x"}}, "unknown part metadata.name; expected one of labels"),
        ({"metadata": {"labels": {"hbseg.io/run": "x"}}}, "metadata.labels.hbseg.io/run is set"),
    ],
)
def test_what_hbseg_needs_as_it_is_may_not_be_changed(overrides: Manifest, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        overridden(overrides, unrestricted=True)
    assert refused.value.message.startswith("cluster.pod_overrides: ")
    assert message in refused.value.message


BREAKS: list[tuple[Manifest, str]] = [
    ({"spec": {"hostNetwork": True}}, "spec.hostNetwork is true"),
    ({"spec": {"hostPID": True}}, "spec.hostPID is true"),
    ({"spec": {"securityContext": {"runAsNonRoot": False}}}, "does not set runAsNonRoot to true"),
    ({"spec": {"securityContext": {"runAsUser": 0}}}, "has runAsUser 0"),
    ({"spec": {"securityContext": {"seccompProfile": None}}}, "has seccompProfile None"),
    (
        {"spec": {"securityContext": {"sysctls": [{"name": "kernel.x", "value": "1"}]}}},
        "sysctl kernel.x is set",
    ),
    (
        {"spec": {"volumes": [{"name": "dev", "hostPath": {"path": "/dev"}}]}},
        "volume dev is a hostPath",
    ),
    (of_main(securityContext={"privileged": True}), "container step is privileged"),
    (of_main(securityContext={"allowPrivilegeEscalation": None}), "allowPrivilegeEscalation"),
    (
        of_main(securityContext={"capabilities": {"add": ["IPC_LOCK"]}}),
        "container step adds capability IPC_LOCK",
    ),
    (of_main(securityContext={"capabilities": {"drop": []}}), "does not drop all capabilities"),
    (of_main(ports=[{"containerPort": 1, "hostPort": 1}]), "container step has hostPort 1"),
    (
        {"spec": {"initContainers": [{"name": "tail", "image": "x"}]}},
        "container tail does not set allowPrivilegeEscalation to false",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), BREAKS, ids=[text for _, text in BREAKS])
def test_what_breaks_the_restricted_standard_is_named(overrides: Manifest, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        overridden(overrides)
    assert message in refused.value.message
    assert refused.value.hint == "take it out, or set cluster.unrestricted: true"

    allowed = overridden(overrides, unrestricted=True)

    assert any(message in problem for problem in restricted_problems(allowed["spec"]))


def test_overrides_are_told_value_by_value() -> None:
    overrides = {"spec": {"hostIPC": True, **of_main(env=[{"name": "A", "value": "1"}])["spec"]}}

    assert override_lines(ClusterProfile(pod_overrides=overrides)) == [
        "spec.hostIPC: true",
        'spec.containers[main].env[A].value: "1"',
    ]
    assert override_lines(ClusterProfile()) == []


def test_a_profile_stays_as_it_is() -> None:
    profile = ClusterProfile(pod_overrides=of_main(env=[{"name": "A", "value": "1"}]))
    before = copy.deepcopy(profile.pod_overrides)

    found = template()
    with_overrides(found, profile)
    found["spec"]["containers"][0]["env"].clear()

    assert profile.pod_overrides == before
