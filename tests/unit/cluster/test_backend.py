"""The Kubernetes backend over a fake API: what a submit makes, refuses and replaces."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hbseg.cluster.backend import KubernetesBackend
from hbseg.cluster.observe.events import is_about
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from hbseg.config.specs import CompileSpec, ModelBlock, ReportSpec, TrainSpec
from hbseg.control.waiting import wait_for_end, wait_for_start
from hbseg.errors import ConflictError, InvalidInput, NotFinished, NotFoundError, SpecError
from hbseg.runs.attempts import AttemptResult, claim_attempt, latest_record, record_result
from hbseg.runs.backend import Phase
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
from hbseg.storage.markers import MARKER
from hbseg.storage.opening import open_store
from hbseg.system.clock import z_time
from tests.unit.cluster.conftest import DATA
from tests.unit.cluster.fake_api import FakeApi, Reply, status
from tests.unit.cluster.sidecars import RUNS, add_sidecar, ended


def task(run: Run, batch: int = 4) -> Task:
    spec = CompileSpec(batch_size=batch)
    prefix = "engine/0a1b2c3d4e5f"
    return Task(Step.COMPILE, spec, run.folder.folder(prefix), prefix)


NAME = "main-compile-0a1b2c"
PLACEMENT = Placement(cluster=ClusterProfile(image="images.example/hbseg-train:1"))


def submit(backend: KubernetesBackend, run: Run, of: Task | None = None) -> Phase:
    return backend.submit(run, of or task(run), PLACEMENT, data=DATA).phase


def job_of(api: FakeApi) -> dict[str, Any]:
    return api.objects["jobs", NAME]


def end(api: FakeApi, kind: str = "Complete") -> None:
    """Let the job end, as the job controller does."""
    job = dict(job_of(api))
    api.put("jobs", job | {"status": {"conditions": [{"type": kind, "status": "True"}]}})


def pod_of(api: FakeApi, name: str = f"{NAME}-abcde", **state: Any) -> None:
    """Make a pod of the job, running if no state is given."""
    labels = job_of(api)["spec"]["template"]["metadata"]["labels"]
    owner = {"uid": job_of(api)["metadata"]["uid"]}
    api.put(
        "pods",
        {
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "step", "image": "x"}], "nodeName": "n"},
            "status": {
                "phase": "Running",
                "containerStatuses": [{"name": "step", "state": state or {"running": {}}}],
            },
        },
    )


def meshed_pod_of(api: FakeApi, code: int, finished: str = "2026-01-01T00:00:00Z") -> None:
    """Make a pod of the job whose main container has ended, and whose sidecar does not end."""
    pod_of(api, **ended(code, finishedAt=finished, message="bad" if code else ""))
    pod = api.objects["pods", f"{NAME}-abcde"]
    add_sidecar(pod, RUNS)
    api.put("pods", pod)


def test_a_submit_makes_a_spec_an_owner_and_a_job_that_they_belong_to(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    assert submit(backend, run) == Phase.PENDING

    owner = api.objects["configmaps", "hbseg-run-main"]
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "hbseg-run-main",
        "uid": owner["metadata"]["uid"],
    }
    assert job_of(api)["metadata"]["ownerReferences"] == [owner]
    specs = [name for plural, name in api.objects if name.startswith("hbseg-spec-")]
    assert len(specs) == 1
    assert api.objects["configmaps", specs[0]]["metadata"]["ownerReferences"] == [owner]
    assert backend.tasks(run) == ["engine-0a1b2c3d4e5f"]
    spec = backend.spec_of(run, task(run).name)
    assert spec is not None
    assert spec["batch_size"] == 4


def test_all_is_checked_before_anything_is_made(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    of = task(run)
    of.folder.put(MARKER, b"old")
    denied = 'admission webhook "v" denied the request: no'
    api.plan("POST", "/jobs", Reply(400, status(400, denied)))

    with pytest.raises(InvalidInput, match="no"):
        submit(backend, run, of)

    assert not api.objects
    assert of.folder.exists(MARKER)
    assert all(r.query.get("dryRun") == "All" for r in api.requests if r.method == "POST")


def test_a_job_that_runs_is_joined_and_another_spec_refused_with_the_difference(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    pod_of(api)
    uid = job_of(api)["metadata"]["uid"]

    assert submit(backend, run) == Phase.RUNNING
    assert job_of(api)["metadata"]["uid"] == uid
    with pytest.raises(ConflictError, match=r"runs with another spec \(batch_size: 4 -> 8\); wait"):
        submit(backend, run, task(run, batch=8))


def test_a_job_that_ended_is_replaced_once_its_pods_are_gone(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    pod_of(api, terminated={"exitCode": 65})
    end(api, "Failed")
    of = task(run)
    of.folder.put(MARKER, b"old")
    first = job_of(api)["metadata"]["uid"]

    assert submit(backend, run, of) == Phase.PENDING

    assert job_of(api)["metadata"]["uid"] != first
    assert not of.folder.exists(MARKER)
    order = [(r.method, r.path.rpartition("/")[2]) for r in api.requests if r.method != "GET"]
    assert order.index(("DELETE", NAME)) < len(order) - 1
    assert order[-1] == ("POST", "jobs")


def test_a_submit_without_an_image_makes_nothing(
    backend: KubernetesBackend, api: FakeApi, run: Run
) -> None:
    with pytest.raises(SpecError, match=r"no image for the pods of compile; set cluster\.image"):
        backend.submit(run, task(run), Placement(), data=DATA)

    assert not [kind for kind, _ in api.objects if kind in ("jobs", "configmaps")]


def test_the_same_name_of_another_run_is_refused(
    api: FakeApi, backend: KubernetesBackend, run: Run, tmp_path: Path
) -> None:
    submit(backend, run)
    other = Run(open_store(tmp_path / "others"), "main")

    with pytest.raises(ConflictError, match=r"run main of namespace team is that of .*/runs, not"):
        submit(backend, other, task(other))
    assert backend.tasks(other) == []
    assert backend.state(other, task(run).name).phase == Phase.ABSENT
    assert not backend.cancel(other, task(run).name)
    backend.forget(other)
    assert ("jobs", NAME) in api.objects


def test_of_two_submits_at_once_both_see_one_job(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    phases: list[Phase] = []
    threads = [
        threading.Thread(target=lambda: phases.append(submit(backend, run))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert phases == [Phase.PENDING] * 4
    assert [name for plural, name in api.objects if plural == "jobs"] == [NAME]


def test_a_lost_answer_to_a_create_is_no_failure(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    made = job_of(api)
    api.remove("jobs", NAME)
    dry = Reply(201, made)
    api.plan("POST", "/jobs", dry, Reply(cut=True))
    threading.Timer(0.05, lambda: api.put("jobs", made)).start()

    assert submit(backend, run) == Phase.PENDING


def test_a_spec_that_another_run_has_made_gets_a_second_owner(
    api: FakeApi, backend: KubernetesBackend, run: Run, tmp_path: Path
) -> None:
    submit(backend, run)
    other = Run(open_store(tmp_path / "runs"), "second")
    submit(backend, other, task(other))

    (spec,) = [item for (_, name), item in api.objects.items() if name.startswith("hbseg-spec-")]
    owners = [owner["name"] for owner in spec["metadata"]["ownerReferences"]]
    assert owners == ["hbseg-run-main", "hbseg-run-second"]
    spec["data"] = {"spec.yaml": "another"}
    end(api)
    with pytest.raises(ConflictError, match="does not match the digest in its name; delete it"):
        submit(backend, run)


def test_a_cancel_is_remembered_and_a_submit_forgets_it(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    of = task(run)
    submit(backend, run)

    assert backend.cancel(run, of.name)

    state = backend.state(run, of.name)
    assert (state.phase, state.exit_code, state.reason) == (Phase.CANCELLED, 143, "cancelled")
    assert backend.tasks(run) == [of.name]
    assert not backend.cancel(run, of.name)
    assert submit(backend, run) == Phase.PENDING
    assert backend.wait(run, of.name, 0.01).phase == Phase.PENDING


def test_an_ended_task_is_not_cancelled(api: FakeApi, backend: KubernetesBackend, run: Run) -> None:
    submit(backend, run)
    end(api)

    assert not backend.cancel(run, task(run).name)
    assert backend.state(run, task(run).name).phase == Phase.SUCCEEDED


def test_waiting_sees_the_start_the_restart_and_the_end(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    seen: list[Phase] = []
    for state in backend.changes(run, task(run).name, 30):
        seen.append(state.phase)
        match len(seen):
            case 1:
                pod_of(api)
            case 2:
                end(api)
    assert seen == [Phase.PENDING, Phase.RUNNING, Phase.SUCCEEDED]


def test_a_job_that_somebody_deletes_ends_the_wait(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    states = []
    for state in backend.changes(run, task(run).name, 30):
        states.append((state.phase, state.reason))
        api.remove("jobs", NAME)
    assert states[-1] == (Phase.CANCELLED, "its job was deleted")


def test_what_waits_too_long_is_cancelled_with_its_reason(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    uid = job_of(api)["metadata"]["uid"]
    event = {"involvedObject": {"kind": "Job", "name": NAME, "uid": uid}, "type": "Warning"}
    quota = "exceeded quota: q, requested: cpu=4, used: cpu=0, limited: cpu=2"
    api.put(
        "events",
        {"metadata": {"name": "e"}, "reason": "FailedCreate", "message": quota, **event},
    )
    told: list[str] = []

    with pytest.raises(
        NotFinished, match=r"did not start within 0\.5 s and was cancelled: quota q"
    ):
        wait_for_start(backend, run, task(run), 0.5, tell=told.append)

    assert told == ["quota q is used up: asks for cpu=4, used cpu=0, limit cpu=2"]
    assert backend.state(run, task(run).name).phase == Phase.CANCELLED


def test_a_cluster_without_the_operator_still_shows_its_batch_jobs(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    api.plan("GET", "pytorchjobs", Reply(404, b"404 page not found\n"))

    assert backend.tasks(run) == [task(run).name]


def test_who_joined_a_pending_task_does_not_stop_it(backend: KubernetesBackend, run: Run) -> None:
    submit(backend, run)

    with pytest.raises(NotFinished, match="waits on"):
        wait_for_start(backend, run, task(run), 0.2, joined=True)

    assert backend.state(run, task(run).name).phase == Phase.PENDING


def test_the_attempt_and_a_cause_that_no_pod_tells_come_from_storage(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    number = claim_attempt(run, Step.COMPILE, task(run).name).number
    result = AttemptResult(
        code=70, reason="a bug", attempt=number, finished="2026-01-01T00:00:00+00:00"
    )
    record_result(run, Step.COMPILE, result)
    end(api, "Failed")

    state = wait_for_end(backend, run, task(run), 30)

    assert (state.phase, state.attempt, state.exit_code) == (Phase.FAILED, 1, 70)
    assert state.reason == "a bug"
    assert state == backend.state(run, task(run).name)


def test_forget_removes_all_but_nothing_that_runs(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    with pytest.raises(ConflictError, match="is running; run: hbseg cancel main"):
        backend.forget(run)
    end(api)

    backend.forget(run)

    assert not api.objects


def test_one_pipeline_a_run_and_a_lease_that_ran_out_is_taken_over(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    with backend.exclusive(run):
        with pytest.raises(ConflictError, match="another pipeline is at work on run main"):
            backend.exclusive(run).__enter__()
        lease = api.objects["leases", "hbseg-run-main"]
        lease["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"
        with backend.exclusive(run):
            pass
    assert ("leases", "hbseg-run-main") not in api.objects


def test_logs_of_a_pod_that_has_not_started_say_why(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    with pytest.raises(
        NotFoundError, match="of run main has no log yet: the cluster's job controller"
    ):
        list(backend.logs(run, task(run).name))


def test_events_are_those_of_the_run_with_their_counts(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    for number, name in enumerate((NAME, f"{NAME}-abcde", "mainly-compile-0a1b2c", f"{NAME}-x-y")):
        api.put(
            "events",
            {
                "metadata": {"name": f"e{number}"},
                "involvedObject": {"kind": "Pod" if "abcde" in name else "Job", "name": name},
                "type": "Warning",
                "reason": "FailedCreate",
                "message": f'pods "{name}-q1w2e" is\nforbidden',
                "count": 3,
                "lastTimestamp": f"2026-01-01T00:00:0{5 - number}Z",
            },
        )
    events = backend.events(run)
    assert [(event.about, event.count) for event in events] == [
        (f"Pod/{NAME}-abcde", 3),
        (f"Job/{NAME}", 3),
    ]
    assert events[0].time == "2026-01-01T00:00:04Z"


def test_a_training_and_a_step_of_another_kind_are_found_by_their_kind(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    for step, spec in ((Step.STAGE1, TrainSpec(model=ModelBlock())), (Step.REPORT, ReportSpec())):
        submit(backend, run, Task(step, spec, run.folder.folder(step), step))
    kinds = {plural for plural, _ in api.objects}
    assert kinds == {"configmaps", "pytorchjobs", "jobs"}
    assert backend.tasks(run) == ["report", "stage1"]


def test_forget_waits_for_pods_whose_job_is_gone(
    api: FakeApi, backend: KubernetesBackend, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(backend, run)
    pod_of(api)
    api.remove("jobs", NAME)  # by kubectl: its pod has its grace, and writes a checkpoint
    watch = api.watch

    def end_once_watched(plural: str, query: Any, send: Any) -> None:
        api.remove("pods", f"{NAME}-abcde")
        watch(plural, query, send)

    monkeypatch.setattr(api, "watch", end_once_watched)

    backend.forget(run)

    assert not api.objects


def test_a_submit_that_another_has_overtaken_leaves_its_attempt_alone(
    api: FakeApi, backend: KubernetesBackend, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = task(run)
    made: list[int] = []

    def overtake(*_: object) -> None:
        if not made:
            made.append(0)
            submit(backend, run)
            claim_attempt(run, Step.COMPILE, of.name, spec_hash=of.spec.digest())

    monkeypatch.setattr("hbseg.cluster.job_lifecycle.run_owner.ensure_spec", overtake)
    submit(backend, run)

    record = latest_record(run, Step.COMPILE, of.name)
    assert record is not None
    assert record.result is None


def test_events_of_a_run_with_a_longer_name_are_not_those_of_this_one() -> None:
    def event(kind: str, name: str) -> dict[str, Any]:
        return {"involvedObject": {"kind": kind, "name": name, "uid": "u"}}

    assert is_about(event("Pod", "main-infer-0-abcde"), ["main-infer"])
    assert not is_about(event("Job", "main-infer-valid"), ["main-infer"])


def test_a_pod_that_has_just_started_is_not_the_attempt_before(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    of = task(run)
    number = claim_attempt(run, Step.COMPILE, of.name).number
    result = AttemptResult(code=65, attempt=number, finished="2026-01-01T00:00:00+00:00")
    record_result(run, Step.COMPILE, result)
    submit(backend, run)
    pod_of(api)

    assert backend.state(run, of.name).attempt == 0
    claim_attempt(run, Step.COMPILE, of.name)
    assert backend.state(run, of.name).attempt == 2


@pytest.mark.parametrize(("code", "phase"), [(0, Phase.SUCCEEDED), (65, Phase.FAILED)])
def test_a_wait_ends_with_the_step_and_deletes_the_job_that_a_sidecar_keeps_alive(
    api: FakeApi, backend: KubernetesBackend, run: Run, code: int, phase: Phase
) -> None:
    submit(backend, run)
    meshed_pod_of(api, code)
    assert backend.state(run, task(run).name).phase == phase
    assert ("jobs", NAME) in api.objects  # to look at it changes nothing

    state = backend.wait(run, task(run).name, 30)

    assert (state.phase, state.exit_code) == (phase, code)
    assert "sidecar istio-proxy keeps pod" in state.reason
    assert ("jobs", NAME) not in api.objects
    assert backend.state(run, task(run).name).phase == Phase.ABSENT


@pytest.mark.parametrize(("code", "phase"), [(0, Phase.SUCCEEDED), (65, Phase.FAILED)])
def test_a_second_wait_has_the_same_end_though_the_first_has_deleted_the_job(
    api: FakeApi, backend: KubernetesBackend, run: Run, code: int, phase: Phase
) -> None:
    submit(backend, run)
    meshed_pod_of(api, code, z_time(datetime.now(UTC)))
    phases = []

    for state in backend.changes(run, task(run).name, 30):
        phases.append(state.phase)
        api.remove("jobs", NAME)

    assert phases == [Phase.RUNNING, phase]


def test_a_wait_ends_though_no_object_changes_after_the_step_has_ended(
    api: FakeApi, backend: KubernetesBackend, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hbseg.cluster.backend.TICK_SECONDS", 0.05)
    monkeypatch.setattr("hbseg.cluster.observe.job_state.SIDECAR_SECONDS", 1.5)
    submit(backend, run)
    meshed_pod_of(api, 0, z_time(datetime.now(UTC)))

    assert backend.wait(run, task(run).name, 30).phase == Phase.SUCCEEDED


def test_a_job_that_may_not_be_deleted_ends_the_wait_all_the_same(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    meshed_pod_of(api, 0)
    api.plan("DELETE", NAME, Reply(403, status(403, "jobs is forbidden")))

    assert backend.wait(run, task(run).name, 30).phase == Phase.SUCCEEDED
    assert backend.state(run, task(run).name).is_kept_alive


def test_a_job_that_a_sidecar_keeps_alive_is_replaced_cancelled_and_forgotten(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    meshed_pod_of(api, 0)
    first = job_of(api)["metadata"]["uid"]

    assert submit(backend, run, task(run, batch=8)) == Phase.PENDING

    assert job_of(api)["metadata"]["uid"] != first
    meshed_pod_of(api, 65)
    assert not backend.cancel(run, task(run).name)  # it was not running
    assert ("jobs", NAME) not in api.objects
    assert backend.state(run, task(run).name).phase == Phase.ABSENT
    submit(backend, run)
    meshed_pod_of(api, 0)
    backend.forget(run)
    assert not api.objects


def test_a_job_whose_step_has_just_ended_is_left_to_its_controller(
    api: FakeApi, backend: KubernetesBackend, run: Run
) -> None:
    submit(backend, run)
    meshed_pod_of(api, 0, z_time(datetime.now(UTC)))

    assert submit(backend, run) == Phase.RUNNING
    with pytest.raises(ConflictError, match="is running; run: hbseg cancel main"):
        backend.forget(run)
