"""Overrides of the pod template: what they merge, may not touch, and may not break."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hbseg.cluster.base_manifest import load_manifest
from hbseg.cluster.pods.overrides import override_lines, with_overrides
from hbseg.cluster.pods.restricted import restricted_problems
from hbseg.config.profile import ClusterProfile, laid
from hbseg.config.settings import SettingsFile
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
        (of_main(workingDir="/"), "workingDir of the container main"),
        (of_main(resources={"limits": {"cpu": "1"}}), "resources of the container main"),
        (of_main(env=None), "env of the container main: HOME is set by hbseg"),
        (of_main(env=[{"name": "HOME", "value": "/"}]), "env of the container main: HOME is set"),
        (of_main(env=[{"name": "LD_PRELOAD", "value": "x"}]), "LD_PRELOAD is set for the launcher"),
        (of_main(volumeMounts=None), "volumeMounts of the container main: /etc/hbseg is set by"),
        (
            of_main(volumeMounts=[{"name": "x", "mountPath": "/scratch"}]),
            "volumeMounts of the container main: /scratch is set by hbseg",
        ),
        (
            of_main(volumeMounts=[{"name": "x", "mountPath": "/usr/local/lib"}]),
            "volumeMounts of the container main: /usr/local/lib would hide files of /usr/local",
        ),
        ({"spec": {"restartPolicy": "Always"}}, "spec.restartPolicy is decided by hbseg"),
        ({"spec": {"serviceAccountName": "x"}}, "spec.serviceAccountName is decided"),
        ({"spec": {"serviceAccount": "x"}}, "spec.serviceAccount is decided"),
        ({"spec": {"terminationGracePeriodSeconds": 1}}, "spec.terminationGracePeriodSeconds is"),
        ({"spec": {"automountServiceAccountToken": True}}, "spec.automountServiceAccountToken"),
        ({"spec": {"volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory"}}]}}, "scratch"),
        ({"spec": {"volumes": None}}, "spec.volumes: spec is set by hbseg"),
        ({"spec": {"containers": None}}, "name of the container main is decided by hbseg"),
        ({"spec": None}, "spec is decided by hbseg"),
        ({"metadata": None}, "metadata.labels.app.kubernetes.io/name is set by hbseg"),
        ({"metadata": {"labels": None}}, "metadata.labels.app.kubernetes.io/name is set by"),
        ({"metadata": {"labels": {"hbseg.io/run": "x"}}}, "metadata.labels.hbseg.io/run is set"),
        (
            {
                "spec": {
                    "volumes": [
                        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {}}]}}
                    ]
                }
            },
            "volume t has a token for the cluster; give it an audience",
        ),
    ],
)
def test_what_hbseg_needs_as_it_is_may_not_be_changed(overrides: Manifest, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        overridden(overrides, unrestricted=True)
    assert refused.value.message.startswith("cluster.pod_overrides: ")
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"spec": {"containers": {"name": "x"}}}, "spec.containers: expected a list of keys"),
        ({"spec": {"containers": [5]}}, "spec.containers: expected a list of keys and values"),
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.containers: expected items with a name"),
        (of_main(env={"A": "b"}), "spec.containers[].env: expected a list of keys and values"),
        (of_main(securityContext="x"), "securityContext: expected keys and values, found 'x'"),
        (of_main(args="x"), "spec.containers[].args: expected a list of text, found 'x'"),
        (of_main(**{"$patch": "delete"}), "directives of patches are not known"),
        ({"spec": {"volumes": [{"name": "x", "emptyDir": 5}]}}, "emptyDir: expected keys and"),
        ({"spec": {"securityContext": {"sysctls": ["a"]}}}, "sysctls: expected a list of keys"),
        ({"spec": "x"}, "spec: expected keys and values, found 'x'"),
        ({"spec": {"$patch": "replace"}}, "spec.$patch: directives of patches are not known"),
        ({"specs": {}}, "unknown part specs; did you mean spec?"),
        ({"metadata": {"name": "x"}}, "unknown part metadata.name; expected one of labels"),
        ({"metadata": {"labels": {1: "x"}}}, "metadata.labels.1: expected text in quotes"),
        ({"metadata": {"labels": {"a": 1}}}, "metadata.labels.a is 1, expected text in quotes"),
        (
            of_main(env=[{"name": "GIT_PAT", "value": "ghp_" + "a1" * 18}]),
            "GIT_PAT of container main looks like a secret",
        ),
    ],
)
def test_another_form_than_kubernetes_has_is_refused(overrides: Manifest, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        SettingsFile.from_mapping({"cluster": {"pod_overrides": overrides}}, source="hbseg.yaml")
    assert refused.value.message.startswith("hbseg.yaml: cluster.pod_overrides: ")
    assert message in refused.value.message
    assert "a1a1" not in refused.value.message


KEYS = st.sampled_from(
    [
        *("metadata", "labels", "annotations", "spec", "containers", "initContainers", "name"),
        *("env", "value", "volumeMounts", "mountPath", "volumes", "emptyDir", "image", "args"),
        *("securityContext", "capabilities", "drop", "projected", "sources", "restartPolicy"),
    ]
)
LEAVES = st.sampled_from([None, "main", "step", "x", "HOME", "/scratch", 5, True, "hbseg.io/run"])
PATCHES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.fixed_dictionaries({}, optional={"metadata": PATCHES, "spec": PATCHES}))
def test_whatever_is_merged_what_hbseg_needs_stays_or_it_is_refused(overrides: Manifest) -> None:
    try:
        after = overridden(overrides, unrestricted=True)
    except (SpecError, ValidationError):
        return
    before = template()
    for part in ("volumes", "restartPolicy", "automountServiceAccountToken"):
        own = before["spec"][part]
        kept = after["spec"][part]
        assert all(item in kept for item in own) if part == "volumes" else kept == own
    old, new = before["spec"]["containers"][0], after["spec"]["containers"][0]
    assert all(new[key] == old[key] for key in ("name", "image", "command", "args", "resources"))
    assert all(item in new["env"] for item in old["env"])
    assert all(item in new["volumeMounts"] for item in old["volumeMounts"])
    labels = before["metadata"]["labels"]
    assert labels.items() <= after["metadata"]["labels"].items()


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
    (of_main(securityContext={"seLinuxOptions": {"type": "spc_t"}}), "has type spc_t of seLinux"),
    (
        {"spec": {"securityContext": {"seLinuxOptions": {"user": "x"}}}},
        "sets user or role of seLinuxOptions",
    ),
    (
        of_main(livenessProbe={"httpGet": {"host": "192.0.2.1", "port": 80}}),
        "has a probe or hook of host 192.0.2.1",
    ),
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


def test_overrides_of_a_step_are_merged_into_those_of_all() -> None:
    base = ClusterProfile(pod_overrides=of_main(env=[{"name": "A", "value": "1"}]))
    over = ClusterProfile(pod_overrides=of_main(env=[{"name": "B", "value": "2"}]))

    (container,) = laid(base, over).pod_overrides["spec"]["containers"]

    assert [variable["name"] for variable in container["env"]] == ["A", "B"]
