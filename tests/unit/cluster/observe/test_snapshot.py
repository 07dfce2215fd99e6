"""Snapshots of many runs: what they say, and how many requests they cost."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hbseg.cluster.backend import KubernetesBackend
from hbseg.cluster.names import labels, run_owner_name
from hbseg.cluster.rendering.manifests import job_objects
from hbseg.cluster.run_owner import owner_reference
from hbseg.config.placement import Placement
from hbseg.config.specs import CompileSpec, DatasetBlock, InferSpec, ModelBlock, Spec, TrainSpec
from hbseg.control.status import statuses, statuses_of_runs
from hbseg.runs.attempts import AttemptResult, claim_attempt, record_result
from hbseg.runs.backend import JobState, Phase
from hbseg.runs.run import Run
from hbseg.runs.step_call import StepCall, runs_url
from hbseg.runs.steps import Step
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import write_marker
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.unit.cluster.conftest import DATA
from tests.unit.cluster.fake_api import FakeApi

ENGINE = "engine/0a1b2c3d4e5f"
NAME, URL = "a-run-name", "s3://the-runs"
SPECS: dict[str, tuple[Step, Spec]] = {
    "stage1": (Step.STAGE1, TrainSpec(model=ModelBlock(), dataset=DatasetBlock(version="0" * 16))),
    "stage2": (Step.STAGE2, TrainSpec(stage=2, dataset=DatasetBlock(version="0" * 16))),
    ENGINE: (Step.COMPILE, CompileSpec()),
    "infer": (Step.INFER, InferSpec()),
}
LISTS = dict.fromkeys(("pytorchjobs", "jobs", "pods", "configmaps"), 1)
STATES = {
    "stage1": JobState(Phase.SUCCEEDED, 0, 0),
    "stage2": JobState(Phase.RUNNING, 1),
    "engine-0a1b2c3d4e5f": JobState(
        Phase.PENDING, 0, None, "its pods cannot be created: out of luck"
    ),
    "infer": JobState(Phase.FAILED, 1, 70, "a bug"),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "many")


def rendered(prefix: str) -> str:
    """Return the objects of a task of the run `NAME` in `URL`, as JSON."""
    step, spec = SPECS[prefix]
    call = StepCall(run=NAME, step=step, prefix=prefix, spec=spec, runs=URL, data=DATA)
    return json.dumps(job_objects(call, Placement()))


class Jobs:
    """Puts jobs of runs into the API, as if submitted, and what controllers add to them."""

    def __init__(self, api: FakeApi) -> None:
        self._api = api
        self._rendered: dict[str, str] = {}

    def owner(self, run: Run) -> dict[str, Any]:
        metadata = {
            "name": run_owner_name(run.name),
            "labels": labels(run.name),
            "annotations": {"hbseg.io/runs": runs_url(run)},
        }
        return self._api.put("configmaps", {"metadata": metadata, "data": {}})

    def job(self, run: Run, prefix: str, *, condition: str = "", **metadata: Any) -> dict[str, Any]:
        text = self._rendered.get(prefix) or rendered(prefix)
        self._rendered[prefix] = text
        config_map, job = json.loads(text.replace(NAME, run.name).replace(URL, runs_url(run)))
        self._api.put("configmaps", config_map)
        conditions = [{"type": condition, "status": "True"}] if condition else []
        job["metadata"] |= metadata
        job["status"] = {"conditions": conditions}
        plural = "pytorchjobs" if job["kind"] == "PyTorchJob" else "jobs"
        return self._api.put(plural, job)

    def pod(self, job: dict[str, Any], **metadata: Any) -> None:
        name = f"{job['metadata']['name']}-master-0"
        self._api.put(
            "pods",
            {
                "metadata": {
                    "name": name,
                    "labels": job["metadata"]["labels"],
                    "ownerReferences": [owner_reference(job)],
                    **metadata,
                },
                "spec": {"containers": [{"name": "pytorch"}], "nodeName": "n"},
                "status": {
                    "phase": "Running",
                    "containerStatuses": [{"name": "pytorch", "state": {"running": {}}}],
                },
            },
        )

    def warning(self, job: dict[str, Any], message: str) -> None:
        metadata = job["metadata"]
        about = {"kind": job["kind"], "name": metadata["name"], "uid": metadata["uid"]}
        event = {"involvedObject": about, "type": "Warning", "reason": "FailedCreate"}
        self._api.put(
            "events", {"metadata": {"name": metadata["name"]}, "message": message} | event
        )

    def four(self, run: Run) -> None:
        """Make a run of four tasks: done, running, pending, and failed without a pod."""
        self.owner(run)
        self.job(run, "stage1", condition="Succeeded")
        self.pod(self.job(run, "stage2", condition="Running"))
        self.warning(self.job(run, ENGINE), "out of luck")
        self.job(run, "infer", condition="Failed")
        claim_attempt(run, Step.STAGE2, "stage2")
        number = claim_attempt(run, Step.INFER, "infer").number
        finished = "2026-01-01T00:00:00+00:00"
        result = AttemptResult(code=70, reason="a bug", attempt=number, finished=finished)
        record_result(run, Step.INFER, result)


def runs_of(store: Store, num_runs: int) -> list[Run]:
    runs = [Run(store, f"run-{number}") for number in range(num_runs)]
    for run in runs:
        run.claim(data=DATA, namespace="team")
    return runs


def asked(api: FakeApi) -> Counter[str]:
    """Return how often each kind was listed; anything but a list fails the test."""
    assert {request.method for request in api.requests} <= {"GET"}
    return Counter(request.path.rpartition("/")[2] for request in api.requests)


@pytest.mark.parametrize("num_runs", [1, 2, 50])
def test_a_snapshot_costs_one_list_for_each_kind_whatever_the_number_of_runs(
    api: FakeApi,
    backend: KubernetesBackend,
    store: Store,
    num_runs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs, jobs = runs_of(store, num_runs), Jobs(api)
    for run in runs:
        jobs.four(run)
    reads: list[str] = []
    for name in ("get", "list"):
        monkeypatch.setattr(FolderStore, name, _noted(getattr(FolderStore, name), reads))

    found = backend.snapshot(runs)

    assert found == {run.name: STATES for run in runs}
    assert asked(api) == LISTS | {"events": 1}
    # of the four tasks, storage is asked for the attempts of the running and of the failed one
    assert Counter(reads) == {"list": 2 * num_runs, "get": 2 * num_runs}


def _noted(method: Any, reads: list[str]) -> Any:
    def noted(*arguments: Any) -> Any:
        reads.append(method.__name__)
        return method(*arguments)

    return noted


def test_a_snapshot_says_of_each_task_what_the_state_of_that_task_says(
    api: FakeApi, backend: KubernetesBackend, store: Store
) -> None:
    runs = runs_of(store, 3)
    for run in runs:
        Jobs(api).four(run)

    found = backend.snapshot(runs)

    for run in runs:
        assert list(found[run.name]) == backend.tasks(run)
        assert found[run.name] == {name: backend.state(run, name) for name in found[run.name]}


def test_no_events_are_listed_while_nothing_is_pending(
    api: FakeApi, backend: KubernetesBackend, store: Store
) -> None:
    runs = runs_of(store, 2)
    for run in runs:
        Jobs(api).owner(run)
        Jobs(api).job(run, "stage1", condition="Succeeded")

    assert {name: list(tasks) for name, tasks in backend.snapshot(runs).items()} == {
        "run-0": ["stage1"],
        "run-1": ["stage1"],
    }
    assert asked(api) == LISTS


def test_no_runs_cost_nothing(api: FakeApi, backend: KubernetesBackend) -> None:
    assert backend.snapshot([]) == {}
    assert not api.requests


@pytest.mark.parametrize("num_runs", [2, 60])
def test_what_several_jobs_in_a_queue_wait_for_costs_one_list(
    api: FakeApi, backend: KubernetesBackend, store: Store, num_runs: int
) -> None:
    runs = runs_of(store, num_runs)
    jobs = Jobs(api)
    for number, run in enumerate(runs):
        job = jobs.job(run, ENGINE)
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
        job["spec"]["suspend"] = True
        waits = {"type": "QuotaReserved", "status": "False", "message": f"place {number}"}
        uid = {"kueue.x-k8s.io/job-uid": api.put("jobs", job)["metadata"]["uid"]}
        metadata = {"name": f"w{number}", "labels": uid}
        api.put("workloads", {"metadata": metadata, "status": {"conditions": [waits]}})

    found = backend.snapshot(runs)

    assert [tasks["engine-0a1b2c3d4e5f"].reason for tasks in found.values()] == [
        f"waits in queue gpus: place {number}" for number in range(num_runs)
    ]
    assert asked(api) == LISTS | {"events": 1, "workloads": 1}


def test_a_snapshot_is_read_page_by_page(
    api: FakeApi, backend: KubernetesBackend, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hbseg.cluster.requests.client.PAGE", 2)
    runs = runs_of(store, 3)
    for run in runs:
        Jobs(api).four(run)

    assert backend.snapshot(runs) == {run.name: STATES for run in runs}
    assert asked(api) == {"pytorchjobs": 3, "jobs": 3, "pods": 2, "configmaps": 2, "events": 2}


def test_a_namesake_in_other_storage_is_left_out(
    api: FakeApi, backend: KubernetesBackend, store: Store, tmp_path: Path
) -> None:
    (run,) = runs_of(store, 1)
    Jobs(api).four(run)
    other = Run(open_store(tmp_path / "others"), run.name)

    assert backend.snapshot([other]) == {run.name: {}}


def test_a_task_whose_job_was_deleted_is_known_until_its_pods_are_gone(
    api: FakeApi, backend: KubernetesBackend, store: Store
) -> None:
    (run,) = runs_of(store, 1)
    Jobs(api).owner(run)
    job = Jobs(api).job(run, "stage2")
    Jobs(api).pod(job, deletionTimestamp="2026-01-01T00:00:00Z")
    api.objects.pop(("pytorchjobs", job["metadata"]["name"]))

    assert backend.snapshot([run]) == {
        run.name: {"stage2": JobState(Phase.RUNNING, 0, None, "it is being stopped")}
    }
    assert backend.tasks(run) == ["stage2"]
    api.remove("pods", f"{job['metadata']['name']}-master-0")
    assert backend.snapshot([run]) == {run.name: {}}


def after_the_first_list(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]
) -> None:
    """Let something happen between the first list of a snapshot and the second."""
    listed, acts = api.listed, [act]

    def list_and_act(*arguments: Any) -> tuple[int, dict[str, Any]]:
        answer = listed(*arguments)
        if acts:
            acts.pop()()
        return answer

    monkeypatch.setattr(api, "listed", list_and_act)


def test_a_cancel_between_two_lists_is_not_lost(
    api: FakeApi, backend: KubernetesBackend, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(store, 2)
    Jobs(api).owner(runs[0])
    job = Jobs(api).job(runs[0], "stage2")

    def cancel() -> None:
        api.patched("configmaps", "hbseg-run-run-0", {"data": {"stage2": "cancelled"}})
        api.remove("pytorchjobs", job["metadata"]["name"])

    after_the_first_list(api, monkeypatch, cancel)

    assert backend.snapshot(runs)["run-0"]["stage2"].phase == Phase.CANCELLED


def test_a_failure_between_two_lists_is_not_taken_for_another_attempt(
    api: FakeApi, backend: KubernetesBackend, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(store, 2)
    job = Jobs(api).job(runs[0], "stage2")
    Jobs(api).pod(job)

    def fail() -> None:
        pod = api.objects["pods", f"{job['metadata']['name']}-master-0"]
        ended = {"terminated": {"exitCode": 70}}
        pod["status"]["containerStatuses"] = [{"name": "pytorch", "state": ended}]
        api.put("pods", pod)
        conditions = [{"type": "Failed", "status": "True"}]
        api.put("pytorchjobs", job | {"status": {"conditions": conditions}})

    after_the_first_list(api, monkeypatch, fail)

    assert backend.snapshot(runs)["run-0"]["stage2"].phase == Phase.FAILED


def test_a_cancelled_task_stays_known_by_its_runs_owner(
    api: FakeApi, backend: KubernetesBackend, store: Store
) -> None:
    runs = runs_of(store, 2)
    for run in runs:
        Jobs(api).owner(run)
    api.objects["configmaps", "hbseg-run-run-1"]["data"] = {"stage1": "cancelled"}

    assert backend.snapshot(runs) == {
        "run-0": {},
        "run-1": {"stage1": JobState(Phase.CANCELLED, 0, 143, "cancelled")},
    }


def test_the_status_of_one_run_and_of_many_costs_one_snapshot(
    api: FakeApi, backend: KubernetesBackend, store: Store
) -> None:
    runs = runs_of(store, 5)
    for run in runs:
        Jobs(api).four(run)
        claim_attempt(run, Step.STAGE1, "stage1")
        folder = run.folder.folder("stage1")
        write_marker(folder, step="stage1", spec_hash="0", inputs={}, outputs={})

    one = statuses(backend, runs[0], runs[0].read())
    requests_of_one = asked(api)
    api.requests.clear()
    claims = [run.read() for run in runs]
    many = statuses_of_runs(backend, store, claims)

    assert [(status.prefix, status.state, status.attempt, status.reason) for status in one] == [
        ("stage1", "done", 1, ""),
        ("stage2", "running", 1, ""),
        (ENGINE, "pending", 0, "its pods cannot be created: out of luck"),
        ("infer", "failed", 1, "a bug"),
    ]
    assert requests_of_one == asked(api) == LISTS | {"events": 1}
    states = [(status.prefix, status.state) for status in one]
    assert [run.name for run in runs] == list(many)
    for found in many.values():
        assert [(status.prefix, status.state) for status in found] == states
