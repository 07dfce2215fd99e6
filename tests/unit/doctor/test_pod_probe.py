"""The look from a pod: its job, what is told of a pod that does not start, and what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hbseg import __version__
from hbseg.cluster.rendering.lint import problems
from hbseg.cluster.requests.resources import Resource
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from hbseg.doctor.check import Check, Status, failed, ok
from hbseg.doctor.pod_probe import probe, probe_job
from hbseg.doctor.report import DoctorReport
from hbseg.doctor.subject import Subject
from hbseg_jobs.probe import main
from tests.unit.cluster.sidecars import RUNS, add_sidecar
from tests.unit.cluster.sidecars import ended as ended_state
from tests.unit.doctor.fake_cluster import FakeCluster

PROFILE = ClusterProfile(
    image="team/train:1",
    credentials_secret="hbseg-s3",
    s3_endpoint="http://s3.team:9000",
    service_account="trainer",
    queue="team-a",
    spread_over="kubernetes.io/hostname",
)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def of(cluster: FakeCluster) -> Subject:
    return Subject(cluster, Placement(cluster=PROFILE), runs="s3://b/runs", data="s3://b/data")


def pod(**status: Any) -> dict[str, Any]:
    containers = [{"name": "step", "image": "team/train:1"}]
    return {
        "metadata": {"name": "p", "uid": "1"},
        "spec": {"nodeName": "node1", "containers": containers},
        "status": {"phase": "Pending", **status},
    }


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "step", "state": state}]}


def ended(message: str, code: int = 0) -> dict[str, Any]:
    return pod(**container(terminated={"exitCode": code, "message": message}))


def test_the_job_is_given_what_a_step_is(cluster: FakeCluster) -> None:
    job = probe_job(of(cluster), 120)

    assert problems(job) == []
    template = job["spec"]["template"]
    (step,) = template["spec"]["containers"]
    assert step["image"] == "team/train:1"
    assert step["args"] == [
        *("--expect", __version__, "--folder=runs=s3://b/runs", "--folder=data=s3://b/data")
    ]
    variables = {variable["name"]: variable for variable in step["env"]}
    assert variables["AWS_ENDPOINT_URL"]["value"] == "http://s3.team:9000"
    keys = variables["AWS_ACCESS_KEY_ID"]["valueFrom"]["secretKeyRef"]
    assert keys["name"] == "hbseg-s3"
    assert template["spec"]["serviceAccountName"] == "trainer"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert job["spec"]["activeDeadlineSeconds"] == 180
    assert "nvidia.com/gpu" not in step["resources"]["limits"]


def test_what_the_pod_found_is_told_and_the_job_deleted(cluster: FakeCluster) -> None:
    found = (ok("image", "hbseg"), failed("runs: read", "S3 does not allow access", "ask"))
    report = DoctorReport(backend="pod", checks=found)
    cluster.changes = [
        pod(**container(waiting={"reason": "ContainerCreating"})),
        pod(**container(running={})),
        ended(report.for_termination().decode()),
    ]

    checks = list(probe(of(cluster), 60))

    assert [(check.name, check.status.value) for check in checks] == [
        ("pod", "ok"),
        ("pod: image", "ok"),
        ("pod: runs: read", "failed"),
    ]
    assert "on node1" in checks[0].message
    ((job, dry_run),) = cluster.created
    assert not dry_run
    assert cluster.deleted == [job["metadata"]["name"]]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("ImagePullBackOff", "image team/train:1 cannot be pulled: because"),
        ("ErrImageNeverPull", "image team/train:1 cannot be pulled: it is not on the node"),
        ("CreateContainerConfigError", "its container cannot be created: because"),
    ],
)
def test_a_pod_that_will_never_start_is_not_waited_for(
    cluster: FakeCluster, reason: str, words: str
) -> None:
    cluster.changes = [pod(**container(waiting={"reason": reason, "message": "because"}))]

    (check,) = probe(of(cluster), 3600)

    assert check.status == Status.FAILED
    assert check.message.startswith(words)
    assert len(cluster.deleted) == 1


def test_a_pod_that_stays_pending_says_why(cluster: FakeCluster) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    cluster.objects["pods"] = {"p": pod(conditions=[condition])}

    (check,) = probe(of(cluster), 0.05)

    assert check.message == "it did not end within 0.05 s: a gate holds it back from scheduling"


def test_a_job_that_gets_no_pod_says_what_its_events_say(cluster: FakeCluster) -> None:
    create = cluster.create

    def refused(resource: Resource, item: Any, *, dry_run: bool = False) -> Any:
        about = {"kind": "Job", "name": item["metadata"]["name"]}
        cluster.put("events", "e", reason="FailedCreate", message="no room", involvedObject=about)
        return create(resource, item, dry_run=dry_run)

    cluster.create = refused  # type: ignore[method-assign]

    (check,) = probe(of(cluster), 3600)

    assert "no room" in check.message


def test_a_job_that_waits_in_a_queue_names_it(cluster: FakeCluster) -> None:
    create = cluster.create

    def suspended(resource: Resource, item: Any, *, dry_run: bool = False) -> Any:
        held = {**item, "spec": {**item["spec"], "suspend": True}}
        return create(resource, held, dry_run=dry_run)

    cluster.create = suspended  # type: ignore[method-assign]

    (check,) = probe(of(cluster), 0.05)

    assert check.message == "it did not end within 0.05 s: waits in queue team-a"


def test_an_image_without_hbseg_is_found_out_by_the_end_of_its_log(cluster: FakeCluster) -> None:
    cluster.changes = [ended("No module named hbseg_jobs.probe\n", code=1)]

    (check,) = probe(of(cluster), 60)

    assert check.status == Status.FAILED
    assert check.message == "it ended with code 1: No module named hbseg_jobs.probe"


PULL = {"waiting": {"reason": "ImagePullBackOff", "message": "because"}}


@pytest.mark.parametrize("native", [False, True])
def test_what_the_pod_found_is_told_though_a_sidecar_runs_on(
    cluster: FakeCluster, native: bool
) -> None:
    report = DoctorReport(backend="pod", checks=(ok("image", "hbseg"),))
    meshed = ended(report.for_termination().decode())
    add_sidecar(meshed, RUNS, native=native)
    starting = pod(**container(waiting={"reason": "PodInitializing"}))
    add_sidecar(starting, ended_state(1), native=native)
    cluster.changes = [starting, meshed]

    assert [check.name for check in probe(of(cluster), 60)] == ["pod", "pod: image"]


def test_a_native_sidecar_that_will_never_start_is_not_waited_for(cluster: FakeCluster) -> None:
    stuck = pod(**container(waiting={"reason": "PodInitializing"}))
    add_sidecar(stuck, PULL, native=True)
    cluster.changes = [stuck]

    (check,) = probe(of(cluster), 3600)

    assert check.message == "sidecar istio-proxy: image proxy:1 cannot be pulled: because"


def test_a_plain_sidecar_that_will_never_start_keeps_nobody_from_looking(
    cluster: FakeCluster,
) -> None:
    report = DoctorReport(backend="pod", checks=(ok("image", "hbseg"),))
    running = pod(**container(running={}))
    creating = pod(**container(waiting={"reason": "ContainerCreating"}))
    over = ended(report.for_termination().decode())
    for one in (creating, running, over):
        add_sidecar(one, PULL)
    cluster.changes = [creating, running, over]

    assert [check.name for check in probe(of(cluster), 60)] == ["pod", "pod: image"]


def test_an_init_container_that_fails_ends_the_look(cluster: FakeCluster) -> None:
    failed = pod(**container(waiting={"reason": "PodInitializing"}))
    failed["spec"]["initContainers"] = [{"name": "istio-validation", "image": "proxy:1"}]
    failed["status"] |= {
        "phase": "Failed",
        "initContainerStatuses": [
            {"name": "istio-validation", "state": ended_state(126, message="no redirect")}
        ],
    }
    cluster.changes = [failed]

    (check,) = probe(of(cluster), 3600)

    assert "init container istio-validation of p ended with exit code 126" in check.message


def test_the_look_itself_is_written_as_a_termination_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HBSEG_TERMINATION_LOG", str(tmp_path / "log"))

    assert main(["--expect", "9.9.9", f"--folder=runs={tmp_path / 'runs'}"]) == 0

    report = DoctorReport.from_text((tmp_path / "log").read_bytes(), source="log")
    told = {check.name: check.status for check in report.checks}
    assert told["image"] == Status.WARNING
    assert told["runs: conditional write"] == Status.OK
    assert DoctorReport.from_text(capsys.readouterr().out, source="out") == report


def test_a_long_report_fits_a_termination_message() -> None:
    checks = tuple(
        Check(name=f"check {n}", status=Status.FAILED, message="x" * 5000, fix="y" * 80)
        for n in range(9)
    )

    assert len(DoctorReport(backend="pod", checks=checks).for_termination()) <= 4096
