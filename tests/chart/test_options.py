"""One small case per option of the chart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm import CHART, Helm, Object, objects_of, settings_of

S3 = [{"cidr": "10.0.0.0/8", "port": 9000}]
IMAGES = {"image": "registry.example/train:1", "control_image": "registry.example/control:1"}
PROFILE = ("ConfigMap", "hbseg-profile")
DOCTOR = ("Pod", "hbseg-doctor")


def cluster_of(helm: Helm, **values: Any) -> dict[str, Any]:
    """Return `cluster:` of the profile that values give."""
    cluster: dict[str, Any] = settings_of(helm.rendered(**values))["cluster"]
    return cluster


def doctor_of(helm: Helm, **values: Any) -> Object:
    """Return the pod of `helm test`."""
    profile = IMAGES | values.pop("profile", {})
    return helm.rendered(profile=profile, **values)[DOCTOR]


def environment_of(pod: Object) -> dict[str, Any]:
    """Return the variables of a pod's container: values, or where they come from."""
    variables = pod["spec"]["containers"][0]["env"]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in variables}


def test_without_values_there_are_accounts_rights_and_a_profile(helm: Helm) -> None:
    assert set(helm.rendered()) == {
        ("ServiceAccount", "hbseg-steps"),
        ("ServiceAccount", "hbseg-runner"),
        ("ConfigMap", "hbseg-profile"),
        ("Role", "hbseg"),
        ("RoleBinding", "hbseg"),
        ("Role", "hbseg-doctor"),
        ("RoleBinding", "hbseg-doctor"),
        ("Pod", "no-image-set-profile-control-image"),
    }


def test_keys_that_are_empty_are_left_out_of_the_profile(helm: Helm) -> None:
    assert settings_of(helm.rendered()) == {
        "apiVersion": "hbseg/v1",
        "kind": "Settings",
        "cluster": {"service_account": "hbseg-steps", "runner_service_account": "hbseg-runner"},
    }


def test_storage_is_named_beside_the_profile(helm: Helm) -> None:
    settings = settings_of(helm.rendered(data="s3://a/data", runs="s3://a/runs"))

    assert (settings["data"], settings["runs"]) == ("s3://a/data", "s3://a/runs")


def test_a_profile_is_passed_on_as_it_is(helm: Helm) -> None:
    given = {
        "s3_region": None,
        "gpus_per_process": 0,
        "cpu_per_process": "500m",
        "keep_finished": 2147483647,
        "environment": {"EMPTY": "", "NCCL_DEBUG": "INFO"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
    }
    cluster = cluster_of(helm, profile=given)

    assert given.items() <= cluster.items()


def test_the_name_of_all_objects_but_the_profile_can_change(helm: Helm) -> None:
    names = {name for _, name in helm.rendered(nameOverride="bones")}

    own = {"bones", "bones-doctor", "bones-runner", "bones-steps"}
    assert names == {*own, "hbseg-profile", "no-image-set-profile-control-image"}


def test_common_labels_and_annotations_are_on_all_objects(helm: Helm) -> None:
    labels, annotations = {"example.com/team": "vision"}, {"example.com/owner": "ann"}
    rendered = helm.rendered(
        commonLabels=labels, commonAnnotations=annotations, profile=IMAGES, cache={"enabled": True}
    )

    for item in rendered.values():
        assert labels.items() <= item["metadata"]["labels"].items()
        assert annotations.items() <= item["metadata"]["annotations"].items()


def test_the_global_registry_stands_before_images_that_name_none(helm: Helm) -> None:
    images = {
        "image": "hbseg/train:0.1.0",
        "control_image": "other.example/hbseg/control:1",
        "tensorrt_image": "localhost/tensorrt:1",
        "steps": {"training": {"image": "train:1.2"}, "infer": {"gpus_per_process": 1}},
    }
    given = {"global": {"imageRegistry": "registry.example:5000/"}, "profile": images}
    cluster = cluster_of(helm, **given)

    assert cluster["image"] == "registry.example:5000/hbseg/train:0.1.0"
    assert cluster["control_image"] == "other.example/hbseg/control:1"
    assert cluster["tensorrt_image"] == "localhost/tensorrt:1"
    assert cluster["steps"]["training"]["image"] == "registry.example:5000/train:1.2"
    assert cluster["steps"]["infer"] == {"gpus_per_process": 1}


def test_global_pull_secrets_have_either_form_and_come_once(helm: Helm) -> None:
    given = {"imagePullSecrets": ["mirror", {"name": "hub"}]}
    profile = IMAGES | {"image_pull_secrets": ["hub", "own"]}
    rendered = helm.rendered(**{"global": given}, profile=profile)

    cluster = settings_of(rendered)["cluster"]
    assert cluster["image_pull_secrets"] == ["mirror", "hub", "own"]
    pulled = [item["name"] for item in rendered[DOCTOR]["spec"]["imagePullSecrets"]]
    assert pulled == ["mirror", "hub", "own"]


def test_an_existing_secret_is_named_and_never_made(helm: Helm) -> None:
    rendered = helm.rendered(credentials={"existingSecret": "keys"}, profile=IMAGES)

    assert settings_of(rendered)["cluster"]["credentials_secret"] == "keys"
    assert "Secret" not in {kind for kind, _ in rendered}
    (rule,) = (
        r for r in rendered["Role", "hbseg-doctor"]["rules"] if r["resources"] == ["secrets"]
    )
    assert (rule["resourceNames"], rule["verbs"]) == (["keys"], ["get"])
    key = environment_of(rendered[DOCTOR])["AWS_ACCESS_KEY_ID"]["secretKeyRef"]
    assert key == {"name": "keys", "key": "AWS_ACCESS_KEY_ID", "optional": True}


@pytest.mark.parametrize(("who", "key"), [("steps", "service"), ("runner", "runner_service")])
def test_a_service_account_has_a_name_annotations_and_no_token(
    helm: Helm, who: str, key: str
) -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/a"}
    rendered = helm.rendered(serviceAccounts={who: {"name": "own", "annotations": role}})

    account = rendered["ServiceAccount", "own"]
    assert account["metadata"]["annotations"] == role
    assert account["automountServiceAccountToken"] is False
    assert settings_of(rendered)["cluster"][f"{key}_account"] == "own"


def test_service_accounts_that_are_there_can_be_used(helm: Helm) -> None:
    own = {name: {"create": False, "name": f"own-{name}"} for name in ("steps", "runner")}
    rendered = helm.rendered(serviceAccounts=own)

    assert "ServiceAccount" not in {kind for kind, _ in rendered}
    assert settings_of(rendered)["cluster"] == {
        "service_account": "own-steps",
        "runner_service_account": "own-runner",
    }
    assert rendered["RoleBinding", "hbseg"]["subjects"][0]["name"] == "own-runner"


def test_without_an_account_of_their_own_steps_have_the_namespaces(helm: Helm) -> None:
    cluster = cluster_of(helm, serviceAccounts={"steps": {"create": False}})

    assert "service_account" not in cluster


def test_steps_are_bound_to_no_role(helm: Helm) -> None:
    bound = {
        subject["name"]
        for (kind, _), item in helm.rendered().items()
        if kind == "RoleBinding"
        for subject in item["subjects"]
    }

    assert bound == {"hbseg-runner"}


def test_roles_can_be_left_to_somebody_else(helm: Helm) -> None:
    kinds = {kind for kind, _ in helm.rendered(rbac={"create": False})}

    assert not {"Role", "RoleBinding"} & kinds


def test_people_get_the_runners_role_and_not_the_doctors(helm: Helm) -> None:
    rendered = helm.rendered(rbac={"users": [{"kind": "Group", "name": "vision:all"}]})

    group = rendered["RoleBinding", "hbseg"]["subjects"][1]
    assert (group["kind"], group["name"]) == ("Group", "vision:all")
    assert len(rendered["RoleBinding", "hbseg-doctor"]["subjects"]) == 1


def policies_of(helm: Helm, **policy: Any) -> dict[str, Any]:
    """Return the specs of the policies, by their names."""
    rendered = helm.rendered(networkPolicy={"enabled": True, "s3": S3} | policy)
    return {name: i["spec"] for (kind, name), i in rendered.items() if kind == "NetworkPolicy"}


def test_pods_reach_dns_and_s3_and_nothing_reaches_them(helm: Helm) -> None:
    spec = policies_of(helm)["hbseg"]

    dns, s3 = spec["egress"]
    assert {(p["protocol"], p["port"]) for p in dns["ports"]} >= {("UDP", 53), ("TCP", 53)}
    assert "to" not in dns
    assert s3 == {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 9000}]}
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec


def test_an_s3_server_in_the_cluster_is_named_by_labels(helm: Helm) -> None:
    server = {
        "namespaceSelector": {"matchLabels": {"name": "storage"}},
        "podSelector": {"matchLabels": {"app": "s3"}},
    }
    _, s3 = policies_of(helm, s3=[server])["hbseg"]["egress"]

    assert s3 == {"to": [server], "ports": [{"port": 443}]}


def test_only_pods_of_trainings_reach_each_other(helm: Helm) -> None:
    spec = policies_of(helm)["hbseg-training"]

    steps = spec["podSelector"]["matchExpressions"]
    assert steps == [{"key": "hbseg.io/step", "operator": "In", "values": ["stage1", "stage2"]}]
    assert spec["ingress"] == [{"from": [{"podSelector": spec["podSelector"]}]}]
    assert spec["egress"] == [{"to": [{"podSelector": spec["podSelector"]}]}]


def test_only_runner_and_doctor_reach_the_api_server(helm: Helm) -> None:
    server = {"cidr": "10.0.0.1/32", "ports": [6443]}
    policies = policies_of(helm, apiServer=server)

    rule = {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [{"port": 6443}]}
    reaching = {name for name, spec in policies.items() if rule in spec.get("egress", [])}
    assert reaching == {"hbseg-runner", "hbseg-doctor"}
    selected = policies["hbseg-runner"]["podSelector"]["matchLabels"]
    assert selected["hbseg.io/step"] == "pipeline"
    doctor = doctor_of(helm)["metadata"]["labels"]
    assert policies["hbseg-doctor"]["podSelector"]["matchLabels"].items() <= doctor.items()


def test_prometheus_reaches_the_port_of_metrics(helm: Helm) -> None:
    labels = {"kubernetes.io/metadata.name": "monitoring"}
    spec = policies_of(helm, monitoringNamespace=labels)["hbseg"]

    source = {"namespaceSelector": {"matchLabels": labels}}
    assert spec["ingress"] == [{"from": [source], "ports": [{"port": "metrics"}]}]


def test_further_egress_is_added(helm: Helm) -> None:
    proxy = {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 3128}]}

    assert policies_of(helm, extraEgress=[proxy])["hbseg"]["egress"][-1] == proxy


def test_a_cache_is_a_claim_that_steps_mount_and_helm_keeps(helm: Helm) -> None:
    given = {"enabled": True, "size": "1Ti", "storageClass": "shared", "path": "/weights"}
    rendered = helm.rendered(cache=given, profile={"volumes": [{"claim": "sets", "path": "/sets"}]})

    claim = rendered["PersistentVolumeClaim", "hbseg-cache"]
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "shared",
        "resources": {"requests": {"storage": "1Ti"}},
    }
    assert settings_of(rendered)["cluster"]["volumes"] == [
        {"claim": "sets", "path": "/sets"},
        {"claim": "hbseg-cache", "path": "/weights", "read_only": False},
    ]
    gone = helm.rendered(cache={"enabled": True, "keep": False})
    assert "annotations" not in gone["PersistentVolumeClaim", "hbseg-cache"]["metadata"]


def test_a_cache_is_mounted_where_a_step_has_volumes_of_its_own(helm: Helm) -> None:
    own = {"volumes": [{"claim": "own", "path": "/own"}]}
    steps = {"training": own, "report": {"volumes": []}, "runner": own, "others": {}}
    given = cluster_of(helm, cache={"enabled": True}, profile={"steps": steps})["steps"]

    cache = {"claim": "hbseg-cache", "path": "/cache", "read_only": False}
    assert given["training"]["volumes"] == [*own["volumes"], cache]
    assert given["report"]["volumes"] == [cache]
    assert (given["runner"], given["others"]) == (own, {})


@pytest.mark.parametrize(
    "values",
    [
        {"profile": None},
        {"doctor": {"resources": None}},
        {"commonLabels": None, "commonAnnotations": None},
    ],
    ids=str,
)
def test_a_value_that_is_null_is_an_empty_one(helm: Helm, values: dict[str, Any]) -> None:
    assert PROFILE in helm.rendered(**values)


def test_labels_of_the_doctor_come_once_and_the_profiles_before_the_common_ones(
    helm: Helm,
) -> None:
    labels = {"team": "b", "helm.sh/chart": "own"}
    profile = IMAGES | {"labels": labels}
    common = {"team": "a", "cost": "1"}
    one = ("--show-only", "templates/tests/doctor.yaml")
    text = helm.template(*one, commonLabels=common, profile=profile)

    assert text.count(" team: ") == text.count(" helm.sh/chart: ") == 1
    (pod,) = objects_of(text).values()
    found = pod["metadata"]["labels"]
    assert (found["team"], found["cost"]) == ("b", "1")
    assert found["helm.sh/chart"] == "hbseg-0.1.0"


def test_a_variable_of_the_doctor_comes_once_and_a_plain_value_counts(helm: Helm) -> None:
    keys = {name: {"secret": "own", "key": "k"} for name in ("AWS_ACCESS_KEY_ID", "A")}
    runner = {"secret_environment": keys, "environment": {"A": "1"}}
    pod = doctor_of(
        helm, credentials={"existingSecret": "keys"}, profile={"steps": {"runner": runner}}
    )

    names = [item["name"] for item in pod["spec"]["containers"][0]["env"]]
    assert len(names) == len({*names})
    given = environment_of(pod)
    assert given["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "own", "key": "k"}}
    assert given["A"] == "1"


def test_a_quota_and_a_limit_range_are_made_by_their_values(helm: Helm) -> None:
    limits = [{"type": "Container", "default": {"cpu": "16"}}]
    hard = {"requests.nvidia.com/gpu": 8, "requests.memory": "1Ti"}
    rendered = helm.rendered(resourceQuota=hard, limitRange=limits)

    told = {"requests.nvidia.com/gpu": "8", "requests.memory": "1Ti"}
    assert rendered["ResourceQuota", "hbseg"]["spec"] == {"hard": told}
    assert rendered["LimitRange", "hbseg"]["spec"] == {"limits": limits}


def test_a_local_queue_is_named_in_the_profile(helm: Helm) -> None:
    rendered = helm.rendered(localQueue={"create": True, "clusterQueue": "gpus"})

    assert rendered["LocalQueue", "hbseg"]["spec"] == {"clusterQueue": "gpus"}
    assert settings_of(rendered)["cluster"]["queue"] == "hbseg"
    named = helm.rendered(localQueue={"create": True, "clusterQueue": "gpus", "name": "team"})
    assert settings_of(named)["cluster"]["queue"] == "team"


def test_helm_test_is_the_doctor_with_the_runners_account(helm: Helm) -> None:
    pod = doctor_of(helm, doctor={"timeout": 60, "nodeSelector": {"pool": "cpu"}})

    container = pod["spec"]["containers"][0]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["serviceAccountName"] == "hbseg-runner"
    assert pod["spec"]["activeDeadlineSeconds"] == 60
    assert pod["spec"]["nodeSelector"] == {"pool": "cpu"}
    assert container["image"] == IMAGES["control_image"]
    assert container["command"] == ["python", "-m", "hbseg_cli", "doctor"]
    assert container["resources"]["limits"] == {"memory": "256Mi"}
    assert "args" not in container
    assert doctor_of(helm, doctor={"inCluster": True})["spec"]["containers"][0]["args"] == [
        "--in-cluster"
    ]


def test_the_doctor_has_the_profiles_storage_and_variables(helm: Helm) -> None:
    storage = {"s3_endpoint": "https://s3.example", "s3_region": "eu-central-1"}
    given = environment_of(doctor_of(helm, profile=storage | {"environment": {"A": "$(B) 1"}}))

    assert given["AWS_ENDPOINT_URL"] == "https://s3.example"
    assert given["AWS_REGION"] == given["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert given["A"] == "$$(B) 1"  # which Kubernetes hands on as it was


def test_the_doctor_runs_as_the_profile_says(helm: Helm) -> None:
    users = {
        name: doctor_of(helm, profile=profile)["spec"]["securityContext"].get("runAsUser")
        for name, profile in (
            ("default", {}),
            ("own", {"run_as_user": 1000620000}),
            ("namespace", {"run_as_user": None}),
        )
    }

    assert users == {"default": 1000, "own": 1000620000, "namespace": None}
    assert isinstance(users["own"], int)  # Helm prints large numbers as 1.00062e+09


def test_without_a_control_image_the_doctor_runs_in_that_of_the_steps(helm: Helm) -> None:
    alone = helm.rendered(profile={"image": "train:1"})
    assert alone[DOCTOR]["spec"]["containers"][0]["image"] == "train:1"


def test_without_any_image_the_test_fails_by_name(helm: Helm) -> None:
    rendered = helm.rendered()

    assert DOCTOR not in rendered
    pod = rendered["Pod", "no-image-set-profile-control-image"]
    assert pod["spec"]["activeDeadlineSeconds"] == 1
    assert "hook-failed" in pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"]


def test_extra_objects_are_templates(helm: Helm) -> None:
    extra = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "{{ .Release.Name }}-more"},
        "data": {"a": '{{ include "hbseg.name" . }}'},
    }

    assert helm.rendered(extraObjects=[extra])["ConfigMap", "hbseg-more"]["data"] == {"a": "hbseg"}


def test_a_parent_chart_may_have_globals_of_its_own_and_a_condition(
    helm: Helm, tmp_path: Path
) -> None:
    shutil.copytree(CHART, tmp_path / "charts" / "hbseg")
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0"}
    needed = [{"name": "hbseg", "version": "0.1.0", "condition": "hbseg.enabled"}]
    (tmp_path / "Chart.yaml").write_text(json.dumps(chart | {"dependencies": needed}))
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"global": {"other": {"a": 1}}}))

    on = helm.template(chart=tmp_path, hbseg={"enabled": True, "data": "s3://a/b"})
    off = helm.template(chart=tmp_path, hbseg={"enabled": False})

    assert settings_of(objects_of(on))["data"] == "s3://a/b"
    assert objects_of(off) == {}
