"""A kind of job that only this file knows: it is listed, and all else works with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from hbseg.cluster import kinds
from hbseg.cluster.backend import KubernetesBackend
from hbseg.cluster.base_manifest import load_manifest
from hbseg.cluster.kinds.job_kind import JobKind
from hbseg.cluster.objects import Manifest, Object
from hbseg.cluster.pods.states import Failure
from hbseg.cluster.pods.template import PodShape, complete_step
from hbseg.cluster.rendering.lint import problems
from hbseg.cluster.rendering.manifests import job_objects
from hbseg.cluster.requests.resources import Resource
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from hbseg.config.specs import DatasetBlock, ModelBlock, TrainSpec
from hbseg.doctor import capacity, rights
from hbseg.doctor.check import Status
from hbseg.errors import SpecError, UnreachableError
from hbseg.exit_codes import StepExit
from hbseg.runs.backend import JobState, Phase
from hbseg.runs.run import Run
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
from tests.unit.cluster.conftest import DATA
from tests.unit.cluster.fake_api import FakeApi, Reply
from tests.unit.doctor.fake_cluster import FakeCluster, one, subject

NAME = "main-stage1"
PROFILE = ClusterProfile(image="images.example/hbseg-train:1")
PLACEMENT = Placement(nodes=2, processes_per_node=3, cluster=PROFILE)


class FakeJobKind(JobKind):
    """A training as singers, all in one template."""

    resource = Resource("example.org", "v2", "choirs", "FakeJobKind", brought_by="the conductor")
    noun = "FakeJobKind"
    controller = "the conductor"
    longest_name = 20
    is_gang = True
    replica_labels = ("example.org/singer",)
    succeeded = "Applauded"
    failed = "Booed"

    def may_run(self, step: Step) -> bool:
        return step.row.torchrun

    def render(self, call: StepCall, placement: Placement) -> Manifest:
        template = load_manifest("train.yaml")["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
        complete_step(template, call, placement)
        shape = PodShape.of(call, placement)
        spec = {"singers": shape.nodes, "voices": shape.processes, "singer": template}
        return {"apiVersion": self.resource.api_version, "kind": self.resource.kind, "spec": spec}

    def problems(self, job: Manifest) -> Iterator[str]:
        if job["spec"]["singers"] > 8:
            yield f"{job['spec']['singers']} singers, a stage holds 8"

    def pod_templates(self, job: Object) -> list[Object]:
        return [job["spec"]["singer"]]

    def num_pods(self, job: Object) -> int:
        return int(job["spec"]["singers"])

    def num_ranks(self, job: Object) -> int:
        return self.num_pods(job) * int(job["spec"]["voices"])

    def is_suspended(self, job: Object) -> bool:
        return bool(job["spec"].get("pause"))

    def is_pod_name(self, words: Sequence[str]) -> bool:
        return len(words) == 2 and words[0] == "singer"

    def failure_in(self, event: Object) -> Failure | None:
        singer, _, what = str(event["message"]).partition(" has ")
        return Failure(singer, StepExit.KILLED, what, "") if what else None


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", (FakeJobKind(), *kinds.KINDS))


@pytest.fixture
def task(run: Run) -> Task:
    spec = TrainSpec(model=ModelBlock(), dataset=DatasetBlock(version="0" * 16))
    return Task(Step.STAGE1, spec, run.folder.folder("stage1"), "stage1")


def choir(api: FakeApi) -> dict[str, Any]:
    return api.objects["choirs", NAME]


def sing(api: FakeApi, number: int, **state: Any) -> None:
    """Make a pod of the job, running if no state is given."""
    template = choir(api)["spec"]["singer"]
    labels = template["metadata"]["labels"] | {"example.org/singer": str(number)}
    owner = {"uid": choir(api)["metadata"]["uid"]}
    states = [{"name": "pytorch", "state": state or {"running": {}}}]
    api.put(
        "pods",
        {
            "metadata": {
                "name": f"{NAME}-singer-{number}",
                "labels": labels,
                "ownerReferences": [owner],
            },
            "spec": template["spec"] | {"nodeName": "n"},
            "status": {"phase": "Running", "containerStatuses": states},
        },
    )


def tell(api: FakeApi, reason: str, message: str) -> None:
    about = {"kind": "FakeJobKind", "name": NAME, "uid": choir(api)["metadata"]["uid"]}
    api.put(
        "events",
        {
            "metadata": {"name": f"e{len(api.objects)}"},
            "involvedObject": about,
            "type": "Warning",
            "reason": reason,
            "message": message,
        },
    )


def end(api: FakeApi, condition: str) -> None:
    status = {"conditions": [{"type": condition, "status": "True"}]}
    api.put("choirs", choir(api) | {"status": status})


def test_it_is_rendered_with_a_name_that_fits_it(run: Run, task: Task) -> None:
    _, job = job_objects(StepCall.of(run, task, data=DATA), PLACEMENT)
    assert (job["kind"], job["metadata"]["name"]) == ("FakeJobKind", NAME)
    assert job["spec"]["singers"] == 2

    long = Run(run.folder.folder("other"), "a-run-with-a-long-name")
    _, job = job_objects(StepCall.of(long, task, data=DATA), PLACEMENT)
    assert len(job["metadata"]["name"]) <= 20


def test_its_rules_are_asked_before_anything_is_sent(run: Run, task: Task) -> None:
    call = StepCall.of(run, task, data=DATA)
    with pytest.raises(SpecError, match="FakeJobKind main-stage1: 9 singers, a stage holds 8"):
        job_objects(call, PLACEMENT.model_copy(update={"nodes": 9}))

    _, job = job_objects(call, PLACEMENT)
    job["metadata"]["name"] = "x" * 21
    assert problems(job) == ["name has 21 characters, a FakeJobKind may have 20"]


def test_it_is_seen_from_submit_to_its_end(
    api: FakeApi, backend: KubernetesBackend, run: Run, task: Task
) -> None:
    def phase() -> Phase:
        return backend.state(run, task.name).phase

    assert backend.submit(run, task, PLACEMENT, data=DATA).phase == Phase.PENDING
    assert backend.tasks(run) == ["stage1"]
    sing(api, 0)
    assert phase() == Phase.PENDING
    sing(api, 1)
    assert phase() == Phase.RUNNING
    end(api, "Applauded")
    assert phase() == Phase.SUCCEEDED
    end(api, "Booed")
    assert phase() == Phase.FAILED


def test_it_can_be_cancelled(
    api: FakeApi, backend: KubernetesBackend, run: Run, task: Task
) -> None:
    backend.submit(run, task, PLACEMENT, data=DATA)
    sing(api, 0)

    assert backend.cancel(run, task.name)

    assert {plural for plural, _ in api.objects} == {"configmaps"}
    assert backend.state(run, task.name).phase == Phase.CANCELLED


def test_it_says_why_it_waits(
    api: FakeApi, backend: KubernetesBackend, run: Run, task: Task
) -> None:
    def reason() -> str:
        return backend.state(run, task.name).reason

    silent = "the conductor has not seen the job; is it running? run: hbseg doctor"
    assert backend.submit(run, task, PLACEMENT, data=DATA).reason == silent
    tell(api, "FailedCreate", "no room")
    assert reason() == "its pods cannot be created: no room"
    choir(api)["spec"]["pause"] = True
    assert reason() == "it is suspended"


def test_its_failure_is_told_by_its_events(
    api: FakeApi, backend: KubernetesBackend, run: Run, task: Task
) -> None:
    backend.submit(run, task, PLACEMENT, data=DATA)
    tell(api, "Silence", f"{NAME}-singer-1 has lost its voice")

    state = backend.state(run, task.name)

    again = "the last attempt failed with code 137: lost its voice"
    assert state == JobState(Phase.PENDING, 0, None, f"waits for its pods to be created ({again})")


def test_its_logs_are_merged_with_the_names_of_its_ranks(
    api: FakeApi, backend: KubernetesBackend, run: Run, task: Task
) -> None:
    backend.submit(run, task, PLACEMENT, data=DATA)
    for number, seconds in enumerate(((1, 4), (2, 3))):
        sing(api, number)
        lines = [f"2026-01-01T00:00:0{second}.000Z [{number}] la" for second in seconds]
        raw = "".join(f"2026-01-01T00:00:09Z {line}\n" for line in lines)
        api.plan("GET", f"pods/{NAME}-singer-{number}/log", Reply(body=raw.encode()))

    texts = [line.partition(" ")[2] for line in backend.logs(run, task.name)]

    assert texts == ["[0] la", "[1] la", "[1] la", "[0] la"]


def test_its_events_are_those_of_the_run(
    api: FakeApi, backend: KubernetesBackend, run: Run, task: Task
) -> None:
    backend.submit(run, task, PLACEMENT, data=DATA)
    tell(api, "Silence", "hush")
    for name in (f"{NAME}-singer-0", f"{NAME}-dancer-0"):
        about = {"kind": "Pod", "name": name}
        api.put("events", {"metadata": {"name": name}, "involvedObject": about})

    told = [event.about for event in backend.events(run)]

    assert sorted(told) == [f"FakeJobKind/{NAME}", f"Pod/{NAME}-singer-0"]


def test_an_older_job_of_another_kind_is_still_seen(
    api: FakeApi,
    backend: KubernetesBackend,
    run: Run,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as before:
        before.setattr(kinds, "KINDS", kinds.KINDS[1:])
        backend.submit(run, task, PLACEMENT, data=DATA)
    assert {plural for plural, _ in api.objects} == {"configmaps", "pytorchjobs"}

    assert "the training operator" in backend.state(run, task.name).reason
    assert backend.cancel(run, task.name)


def test_a_cluster_may_lack_one_of_two_kinds_and_not_the_one_that_is_made(
    api: FakeApi, backend: KubernetesBackend, run: Run, task: Task
) -> None:
    missing = Reply(404, b"404 page not found\n")
    api.plan("GET", "pytorchjobs", *[missing] * 99)
    assert backend.submit(run, task, PLACEMENT, data=DATA).phase == Phase.PENDING
    end(api, "Applauded")
    assert backend.wait(run, task.name, 60).phase == Phase.SUCCEEDED

    api.plan("GET", "choirs", *[missing] * 99)
    api.plan("POST", "choirs", missing)
    with pytest.raises(UnreachableError, match="the conductor is not installed"):
        backend.submit(run, task, PLACEMENT, data=DATA)


def test_the_doctor_counts_it() -> None:
    cluster = FakeCluster()
    hard = {"count/choirs.example.org": "0", "pods": "9"}
    cluster.put("resourcequotas", "q", spec={"hard": hard})
    cluster.forbidden = {("create", "choirs")}

    found = one(capacity.quota, subject(cluster))
    assert found.status == Status.FAILED
    assert "0 of count/choirs.example.org" in found.message
    assert "create choirs" in one(rights.rights, subject(cluster)).message
