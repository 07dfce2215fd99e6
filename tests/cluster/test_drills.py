"""What goes wrong on clusters, brought about: each ends in the right state and sentence.

The steps are fakes (tests/integration/fakes), started by the real launcher in real pods.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hbseg.markers import write_marker
from hbseg.store import open_store
from tests.cluster.cluster import STATE_SECONDS, OwnCluster, until
from tests.cluster.team import Team
from tests.cluster.tokens import with_life

GPU = "example.com/gpu"
"""A GPU that no node has."""
VERSION = "0123456789abcdef"
TRAIN = ("submit-train", "--stage", "1", "--run", "drill", "--set", f"dataset.version={VERSION}")
PREPARE = ("data", "prepare", "s3://bucket/raw", "--run", "drill")


@pytest.fixture
def crew(team: Team) -> Team:
    """A team with a dataset's marker, whose steps are fakes that end well."""
    folder = open_store(f"{team.url}/data").folder(f"versions/{VERSION}")
    write_marker(folder, step="prepare", spec_hash="x", inputs={}, outputs={})
    return team.faking("{}")


def fake(crew: Team, **behaviours: list[str]) -> Team:
    return crew.faking(json.dumps(behaviours))


def row(crew: Team, step: str = "stage1") -> dict[str, object]:
    """Return what `status` tells of a step."""
    told = json.loads(crew.hbseg("status", "drill", "-o", "json").stdout)
    return next(item for item in told["tasks"] if item["step"] == step)


def until_row(crew: Team, holds: Callable[[dict[str, object]], bool], what: str) -> None:
    until(lambda: holds(row(crew)), what)


def is_gone(crew: Team, kind: str) -> bool:
    return crew.namespace.kubectl("get", kind, "-o", "name", "-l", "hbseg.io/run=drill") == ""


# -- it does not start ----------------------------------------------------------------------------


def test_a_wrong_image_is_named_and_the_job_ends_after_the_pending_timeout(crew: Team) -> None:
    wrong = crew.with_profile(image="localhost/no-such:1", image_pull_policy="IfNotPresent")

    line = wrong.refusal(101, *TRAIN, "--wait", "--pending-timeout", "30")

    assert "localhost/no-such:1" in line
    assert "did not start within 30 s" in line
    assert row(wrong)["state"] == "cancelled"
    assert is_gone(crew, "pods")
    assert is_gone(crew, "pytorchjobs")


def test_a_gpu_that_no_node_has_is_the_reason(crew: Team) -> None:
    crew.with_profile(gpus_per_process=1, gpu_resource=GPU).hbseg(*TRAIN)

    until_row(crew, lambda item: GPU in str(item["reason"]), "a GPU is the reason")

    assert row(crew)["state"] == "pending"
    crew.hbseg("cancel", "drill", "-y")
    assert row(crew)["state"] == "cancelled"
    assert is_gone(crew, "pods")


def test_a_quota_is_the_reason_for_a_training_and_for_a_batch_job(crew: Team) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    crew.namespace.create({**quota, "spec": {"hard": {"pods": "0"}}})
    crew.hbseg(*TRAIN)
    crew.hbseg(*PREPARE)

    for step in ("stage1", "prepare"):
        until(lambda step=step: "quota" in str(row(crew, step)["reason"]), f"{step}: quota")  # type: ignore[misc]


def test_a_missing_secret_and_a_missing_volume_are_named(crew: Team) -> None:
    crew.with_profile(credentials_secret="no-such-secret").hbseg(*TRAIN)
    until_row(crew, lambda item: "no-such-secret" in str(item["reason"]), "the Secret is named")
    crew.hbseg("cancel", "drill", "-y")

    volumes = [*crew.profile["volumes"], {"claim": "no-such-claim", "path": "/extra"}]
    crew.with_profile(volumes=volumes).hbseg(*TRAIN)
    until_row(crew, lambda item: "no-such-claim" in str(item["reason"]), "the claim is named")


# -- it fails -------------------------------------------------------------------------------------


def test_memory_that_runs_out_is_tried_once_more_and_then_named(crew: Team) -> None:
    small = fake(crew, stage1=["oom"]).with_profile(memory_per_process="400Mi")

    line = small.refusal(100, *TRAIN, "--wait")

    assert "137" in line
    assert "memory" in line
    assert "attempt 2" in line
    assert row(small)["state"] == "failed"
    assert "memory" in str(row(small)["reason"])


def test_a_permanent_failure_ends_the_job_at_once_with_its_reason(crew: Team) -> None:
    line = fake(crew, stage1=["fail 65"]).refusal(100, *TRAIN, "-j", "2x1", "--wait")

    assert "failed with code 65 in attempt 1: planned failure 65" in line


def test_a_failure_that_passes_is_tried_again_by_the_operator(crew: Team) -> None:
    faking = fake(crew, stage1=["fail 170", "ok"], prepare=["fail 170", "ok"])
    faking.hbseg(*PREPARE)
    faking.hbseg(*TRAIN, "--wait")
    until(lambda: row(crew, "prepare")["state"] == "done", "prepare is done")

    assert row(crew)["attempt"] == 2
    assert row(crew, "prepare")["attempt"] == 2


def test_retries_that_are_used_up_end_the_job_with_the_cause(crew: Team) -> None:
    line = fake(crew, stage1=["fail 170"]).refusal(100, *TRAIN, "--retries", "1", "--wait")

    assert "failed with code 170 in attempt 2: planned failure 170" in line
    assert "planned failure" in crew.hbseg("logs", "drill").stdout


# -- somebody stops it ----------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(*TRAIN, "-j", "2x1"), PREPARE], ids=["stage1", "prepare"])
def test_a_cancel_is_no_failure_and_another_submit_goes_on(
    crew: Team, words: tuple[str, ...]
) -> None:
    step = "stage1" if words[0] == "submit-train" else "prepare"
    waiting = fake(crew, **{step: ["wait", "ok"]})
    waiting.hbseg(*words)
    follower = waiting.start("logs", "drill", "--step", step, "-f")
    assert follower.stdout is not None
    assert any("acts: wait" in line for line in follower.stdout)

    waiting.hbseg("cancel", "drill", "-y")

    follower.communicate()
    assert row(crew, step)["state"] == "cancelled"
    assert is_gone(crew, "pods")
    waiting.hbseg(*words)
    until(lambda: row(crew, step)["state"] == "done", "the second submit ends well")


def test_a_delete_leaves_nothing(crew: Team) -> None:
    crew.hbseg(*TRAIN, "--wait")

    crew.hbseg("delete", "drill", "-y")

    until(lambda: is_gone(crew, "pods,pytorchjobs,jobs,configmaps"), "everything is gone")
    assert list(open_store(f"{crew.url}/runs").list()) == []


def test_submits_of_the_same_and_of_another_spec_meet_a_running_job(crew: Team) -> None:
    waiting = fake(crew, stage1=["wait"])
    waiting.hbseg(*TRAIN)

    again = waiting.hbseg(*TRAIN)
    line = waiting.refusal(5, *TRAIN, "--set", "run.epochs=7")

    assert "running already" in again.stderr
    assert "run.epochs" in line
    assert "7" in line


# -- the cluster itself ---------------------------------------------------------------------------


@pytest.mark.own_node
@pytest.mark.drill
def test_an_operator_that_is_down_is_named_at_submit_and_then_is_back(
    crew: Team, own_cluster: OwnCluster
) -> None:
    own_cluster.stop_component("training-operator")
    try:
        line = crew.refusal(4, *TRAIN)
    finally:
        own_cluster.start_component("training-operator")

    assert "operator" in line
    assert is_gone(crew, "pytorchjobs")
    crew.hbseg(*TRAIN, "--wait")


@pytest.mark.own_node
@pytest.mark.drill
def test_a_server_that_restarts_ends_neither_the_log_nor_the_wait(
    crew: Team, own_cluster: OwnCluster
) -> None:
    gated = fake(crew, stage1=["key gate"])
    gated.hbseg(*TRAIN)
    commands = [("logs", "drill", "-f"), (*TRAIN, "--wait")]
    follower, waiter = (gated.start(*words) for words in commands)
    assert follower.stdout is not None
    assert any("acts: key gate" in line for line in follower.stdout)
    own_cluster.stop_component("kube-apiserver")
    own_cluster.start_component("kube-apiserver")
    open_store(f"{crew.url}/data").put("gate", b"")
    rest, _ = follower.communicate(timeout=STATE_SECONDS)
    _, told = waiter.communicate(timeout=STATE_SECONDS)

    assert "the gate is open" in rest
    assert (follower.returncode, waiter.returncode) == (0, 0), told
    assert row(crew)["state"] == "done"


# -- who may what ---------------------------------------------------------------------------------


def test_a_token_that_is_not_accepted_is_told(crew: Team, tmp_path: Path) -> None:
    path = crew.namespace.cluster.write_kubeconfig(tmp_path / "kubeconfig", token="expired")

    line = crew.refusal(4, *TRAIN, KUBECONFIG=path)

    assert "token" in line
    assert "expired" in line


@pytest.mark.own_node  # its key signs the tokens
def test_a_token_that_ran_out_is_told_and_not_taken_for_missing_rights(
    crew: Team, own_cluster: OwnCluster, tmp_path: Path
) -> None:
    key = own_cluster.node.state.keys / "service-account.key"
    token = crew.namespace.kubectl("create", "token", "default").strip()
    lines = []
    for seconds in (600, -600):
        other = with_life(token, key, seconds)
        path = own_cluster.write_kubeconfig(tmp_path / f"kubeconfig{seconds}", token=other)
        lines.append(crew.refusal(4, *TRAIN, KUBECONFIG=path))

    good, ran_out = lines
    assert "not allowed" in good
    assert "token expired" in ran_out
    assert "log in again" in ran_out


def test_missing_rights_name_the_verb_and_the_resource(crew: Team, tmp_path: Path) -> None:
    token = crew.namespace.kubectl("create", "token", "default").strip()
    path = crew.namespace.cluster.write_kubeconfig(tmp_path / "kubeconfig", token=token)

    line = crew.refusal(4, *TRAIN, KUBECONFIG=path)

    assert "may not" in line or "not allowed" in line
    assert crew.namespace.name in line
    assert "hbseg doctor" in line


def test_a_namespace_that_is_not_there_is_named(crew: Team) -> None:
    assert "no-such-place" in crew.refusal(3, *TRAIN, "-n", "no-such-place")


def test_a_server_that_is_not_there_is_told(crew: Team, tmp_path: Path) -> None:
    gone = "https://127.0.0.1:1"
    path = crew.namespace.cluster.write_kubeconfig(tmp_path / "kubeconfig", server=gone)

    line = crew.refusal(4, *TRAIN, KUBECONFIG=path)

    assert "127.0.0.1:1" in line


def test_ctrl_c_detaches_from_a_wait_and_says_how_to_come_back(crew: Team) -> None:
    import signal

    waiting = fake(crew, stage1=["wait"])
    process = waiting.start(*TRAIN, "--follow")
    assert process.stderr is not None
    assert any("acts: wait" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=STATE_SECONDS)

    assert process.returncode == 130
    assert "hbseg logs drill" in told
    assert row(crew)["state"] == "running"


def test_an_event_of_the_cluster_is_shown(crew: Team) -> None:
    crew.hbseg(*TRAIN, "--wait")

    told = crew.hbseg("events", "drill").stdout

    assert "Scheduled" in told or "Created" in told
    assert "drill-stage1" in told


def applied(crew: Team, manifests: str) -> str:
    return crew.namespace.kubectl("apply", "-f", "-", input=manifests)


def test_what_a_dry_run_prints_is_taken_by_kubectl_and_runs(crew: Team) -> None:
    done = crew.hbseg(*TRAIN, "--dry-run")

    assert "created" in applied(crew, done.stdout)

    crew.namespace.wait("pytorchjob/drill-stage1", "condition=Succeeded")
    assert open_store(f"{crew.url}/runs/drill/stage1").exists("_SUCCESS")


def test_a_dry_run_on_the_server_asks_webhook_and_standard_and_makes_nothing(crew: Team) -> None:
    done = crew.hbseg(*TRAIN, "-j", "2x2", "--dry-run=server")

    assert "pytorchjob.kubeflow.org/drill-stage1 accepted" in done.stderr
    assert is_gone(crew, "pytorchjobs,configmaps")
