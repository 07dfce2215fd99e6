"""The doctor on a real cluster: from here, from a pod, and where something is missing."""

from __future__ import annotations

import json
from typing import Any

from hbseg.storage.opening import open_store
from tests.cluster.team import Team


def checks(team: Team, *words: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """Return what the doctor found, by the names of its checks; the worst of several."""
    done = team.hbseg("doctor", "-o", "json", *words, code=code)
    found = json.loads(done.stdout)["checks"]
    return {check["name"]: check for check in sorted(found, key=badness)}


def badness(check: dict[str, Any]) -> int:
    return ("ok", "unknown", "warning", "failed").index(check["status"])


def test_a_sound_namespace_is_sound_from_a_pod_too(team: Team) -> None:
    found = checks(team, "--in-cluster")

    bad = {name: c for name, c in found.items() if c["status"] not in ("ok", "unknown")}
    # a cluster's own image may have a tag, and its profile an image for the runner
    assert set(bad) - {"image", "runner image", "tensorrt image"} == {"runner account"}
    inside = ("pod", "pod: image", "pod: runs: conditional write", "pod: data: write")
    assert [found[name]["status"] for name in inside] == ["ok"] * 4
    assert "it enforces restricted" in found["namespace"]["message"]
    assert found["dry run: PyTorchJob"]["status"] == "ok"
    assert found["dry run: pod"]["status"] == "ok"
    assert list(open_store(team.url).list()) == []  # every probe's object is removed
    labels = "app.kubernetes.io/part-of=hbseg"
    left = team.namespace.kubectl("get", "jobs", "-l", labels, "-o", "name")
    assert left == ""


def test_what_is_missing_is_named_with_its_fix(team: Team) -> None:
    poor = team.with_profile(
        credentials_secret="absent",
        queue="absent",
        gpus_per_process=1,
        gpu_resource="example.com/absent",
        priority_class="absent",
    )

    found = checks(poor, "--in-cluster", code=5)

    failures = {name for name, check in found.items() if check["status"] == "failed"}
    cluster_wide = {
        "nodes": ("list", "nodes"),
        "priority class": ("get", "priorityclasses.scheduling.k8s.io"),
    }
    seen = {name for name, verb in cluster_wide.items() if team.namespace.cluster.may(*verb)}
    assert failures == {"secret", "queue", "dry run: pod", "pod"} | seen
    assert "create secret generic absent" in found["secret"]["fix"]
    no_kueue, no_queue = "install Kueue", "kubectl get localqueues"
    assert no_kueue in found["queue"]["fix"] or no_queue in found["queue"]["fix"]
    assert "nodes" not in seen or "device plugin" in found["nodes"]["fix"]


def test_a_quota_and_an_image_that_is_not_there(team: Team) -> None:
    quota = {"hard": {"pods": "8", "requests.memory": "1Gi"}}
    metadata = {"name": "small"}
    team.namespace.create(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": quota}
    )
    found = checks(team.with_profile(image="absent:1"), "--in-cluster", code=5)

    assert "small allows 1.0Gi of requests.memory, needed are" in found["quota"]["message"]
    assert found["dry run: pod"]["status"] == "warning"
    assert "image absent:1 cannot be pulled" in found["pod"]["message"]


def test_a_quota_on_a_limit_that_pods_lack_refuses_them_only_for_cpu(team: Team) -> None:
    limit_by_quota(team, "limits.ephemeral-storage")
    let_in = checks(team)
    limit_by_quota(team, "limits.cpu")
    kept_out = checks(team, code=5)

    assert let_in["quota"]["status"] == "warning"
    assert "cluster.limits.ephemeral_storage" in let_in["quota"]["fix"]
    assert let_in["dry run: pod"]["status"] == "ok"
    assert kept_out["quota"]["status"] == "failed"
    assert "cluster.limits.cpu" in kept_out["quota"]["fix"]
    assert "must specify limits.cpu" in kept_out["dry run: pod"]["message"]


def limit_by_quota(team: Team, limit: str) -> None:
    """Make a quota that counts a limit, and return when the server has counted."""
    name = limit.replace(".", "-")
    quota = {"metadata": {"name": name}, "spec": {"hard": {limit: "999G"}}}
    team.namespace.create({"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    team.namespace.wait(f"resourcequota/{name}", "jsonpath={.status.hard}")


def test_keys_that_storage_refuses_in_a_pod_are_a_failure(team: Team) -> None:
    wrong = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "wrong")
    metadata = {"name": "wrong"}
    team.namespace.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": wrong}
    )

    found = checks(team.with_profile(credentials_secret="wrong"), "--in-cluster", code=5)

    assert found["runs: read"]["status"] == "ok"
    assert found["pod: runs: read"]["status"] == "failed"
    assert "AWS_ACCESS_KEY_ID" in found["pod: runs: read"]["fix"]


def test_rights_that_are_missing_come_as_a_role(team: Team) -> None:
    team.namespace.kubectl("create", "serviceaccount", "poor")
    token = team.namespace.kubectl("create", "token", "poor").strip()
    path = team.folder / "poor"
    team.environment["KUBECONFIG"] = team.namespace.cluster.write_kubeconfig(path, token=token)

    found = checks(team, code=5)

    assert found["rights"]["status"] == "failed"
    assert "{apiGroups: [kubeflow.org], resources: [pytorchjobs], " in found["rights"]["fix"]
    assert found["secret"]["status"] == found["nodes"]["status"] == "unknown"
    assert found["runs: write"]["status"] == "ok"


def test_a_cluster_that_is_not_there_is_code_4(team: Team) -> None:
    gone = "https://127.0.0.1:9"
    path = team.folder / "gone"
    team.environment["KUBECONFIG"] = team.namespace.cluster.write_kubeconfig(path, server=gone)

    found = checks(team, code=4)

    assert found["api"]["status"] == "failed"
    assert found["rights"]["message"] == "not checked: the cluster is not reachable"
    assert found["runs: write"]["status"] == "ok"
