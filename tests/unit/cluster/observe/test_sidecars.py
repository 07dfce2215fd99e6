"""States of jobs beside the sidecars of a mesh, from objects that a real cluster had."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from hbseg.cluster.kinds.pytorch_job import PyTorchJob
from hbseg.cluster.observe.job_state import INJECTION_HINT, SIDECAR_SECONDS, job_state
from hbseg.cluster.observe.observation import Observation
from hbseg.cluster.observe.scheduler_messages import asks
from hbseg.runs.backend import JobState, Phase
from tests.unit.cluster.conftest import captured
from tests.unit.cluster.sidecars import KILLED, RUNS, add_sidecar, ended, set_main

END = "2026-01-01T00:00:00Z"
PULLING: dict[str, Any] = {"waiting": {"reason": "ImagePullBackOff", "message": "because"}}
CRASHED = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}}


def seen(name: str, seconds: float = SIDECAR_SECONDS) -> Observation:
    """Return a job that has not ended, this long after `END`."""
    now = datetime.fromisoformat(END) + timedelta(seconds=seconds)
    observation = captured(name, now=now, events=[])
    assert observation.job is not None
    observation.job["status"]["conditions"] = []
    return observation


def beside(name: str, code: int, sidecar: dict[str, Any], seconds: float = SIDECAR_SECONDS) -> Any:
    """Return a job whose main containers have ended beside a sidecar."""
    observation = seen(name, seconds)
    for pod in observation.pods:
        set_main(pod, ended(code, finishedAt=END, message="bad" if code else ""))
        add_sidecar(pod, sidecar)
    return observation


@pytest.mark.parametrize("name", ["running", "two", "job170_later"])
def test_a_job_whose_main_containers_wait_beside_running_sidecars_is_pending(name: str) -> None:
    observation = seen(name)
    for pod in observation.pods:
        set_main(pod, {"waiting": {"reason": "ContainerCreating"}})
        pod["status"]["phase"] = "Pending"
        add_sidecar(pod, RUNS)

    assert job_state(observation).phase == Phase.PENDING


@pytest.mark.parametrize("name", ["exit65", "job65"])
def test_a_native_sidecar_that_is_killed_after_a_failure_does_not_hide_it(name: str) -> None:
    observation = captured(name)
    add_sidecar(observation.pods[0], KILLED, native=True)

    assert job_state(observation) == job_state(captured(name))
    assert job_state(observation).exit_code == 65


@pytest.mark.parametrize(
    ("name", "pods"),
    [
        ("running", "pod running-master-0"),
        ("two", "pod two-worker-0"),
        ("jobok", "pod jobok-7rjss"),
    ],
)
def test_a_job_whose_sidecar_does_not_end_has_succeeded_and_says_what_keeps_it(
    name: str, pods: str
) -> None:
    kept = f"the step has ended, but sidecar istio-proxy keeps {pods} from ending"

    early = job_state(beside(name, 0, RUNS, SIDECAR_SECONDS - 1))
    state = job_state(beside(name, 0, RUNS))

    assert early == JobState(Phase.RUNNING, 0, 0, kept)
    assert state == JobState(Phase.SUCCEEDED, 0, 0, f"{kept}; {INJECTION_HINT}", is_kept_alive=True)
    assert 'sidecar.istio.io/inject: "false"' in state.reason


@pytest.mark.parametrize("name", ["running", "jobok"])
def test_a_job_that_failed_beside_a_sidecar_that_does_not_end_has_failed(name: str) -> None:
    early = job_state(beside(name, 170, RUNS, SIDECAR_SECONDS - 1))
    state = job_state(beside(name, 170, RUNS))

    assert (early.phase, early.exit_code) == (Phase.RUNNING, 170)
    assert (state.phase, state.exit_code, state.is_kept_alive) == (Phase.FAILED, 170, True)
    assert "ended with exit code 170: bad; the step has ended, but sidecar" in state.reason


def test_a_sidecar_that_ends_by_itself_leaves_the_job_to_its_controller() -> None:
    failed = beside("running", 170, ended(0))

    state = job_state(failed)

    assert state.phase == Phase.PENDING
    assert state.reason.endswith("; it starts again")


def test_a_native_sidecar_that_still_runs_leaves_the_job_to_its_controller() -> None:
    observation = seen("running")
    set_main(observation.pods[0], ended(0, finishedAt=END))
    add_sidecar(observation.pods[0], RUNS, native=True)

    assert job_state(observation) == JobState(Phase.RUNNING)


def test_while_one_main_container_runs_sidecars_of_the_others_end_nothing() -> None:
    observation = beside("two", 0, RUNS)
    set_main(observation.pods[1], RUNS)

    assert job_state(observation) == JobState(Phase.RUNNING)
    alone = Observation(observation.job, observation.pods[:1], observation.now)
    assert job_state(alone).phase == Phase.PENDING


@pytest.mark.parametrize("name", ["exit65", "job65"])
def test_a_job_that_its_controller_calls_failed_for_a_sidecar_has_succeeded(name: str) -> None:
    observation = captured(name)
    set_main(observation.pods[0], ended(0, finishedAt=END))
    add_sidecar(observation.pods[0], KILLED)

    assert job_state(observation) == JobState(Phase.SUCCEEDED, 0, 0)


def test_a_pod_that_replaces_one_that_has_done_its_work_does_not_hide_it() -> None:
    observation = seen("job170_later")
    first, *later = sorted(observation.pods, key=lambda pod: pod["metadata"]["creationTimestamp"])
    set_main(first, ended(0, finishedAt=END))
    add_sidecar(first, ended(3))
    set_main(later[-1], RUNS)

    state = job_state(observation)

    assert (state.phase, state.is_kept_alive) == (Phase.SUCCEEDED, True)
    assert f"pod {first['metadata']['name']} ended with exit code 3" in state.reason


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        (PULLING, {}, "sidecar istio-proxy: image proxy:1 cannot be pulled: because"),
        (CRASHED, {"lastState": ended(3, message="no CA")}, "exit code 3: no CA"),
        (ended(3), {}, "sidecar istio-proxy ends again and again, last with exit code 3"),
        (RUNS, {"lastState": ended(3)}, "sidecar istio-proxy ends again and again, last with"),
        (RUNS, {"started": False}, "sidecar istio-proxy is not ready yet"),
        (RUNS, {"started": True}, "its container is being created"),
    ],
)
def test_a_native_sidecar_that_does_not_start_is_the_reason(
    state: dict[str, Any], status: dict[str, Any], reason: str
) -> None:
    observation = seen("running")
    (pod,) = observation.pods
    set_main(pod, {"waiting": {"reason": "PodInitializing"}})
    pod["status"]["phase"] = "Pending"
    add_sidecar(pod, state, native=True, **status)

    told = job_state(observation)

    assert told.phase == Phase.PENDING
    assert reason in told.reason


def test_a_plain_sidecar_that_cannot_be_pulled_keeps_no_main_container_from_running() -> None:
    observation = seen("two")
    for pod in observation.pods:
        add_sidecar(pod, PULLING)
        pod["status"]["phase"] = "Pending"
    assert job_state(observation) == JobState(Phase.RUNNING)
    set_main(observation.pods[1], {"waiting": {"reason": "ErrImagePull", "message": "gone"}})

    state = job_state(observation)

    assert state.reason.startswith("1 of 2 pods wait: two-worker-1: image ")
    assert state.reason.endswith("cannot be pulled: gone")


def test_what_a_pod_asks_for_counts_its_sidecars_after_the_main_container() -> None:
    def container(name: str, **requests: str) -> dict[str, Any]:
        return {"name": name, "resources": {"requests": requests}}

    native = {**container("linkerd-proxy", cpu="50m"), "restartPolicy": "Always"}
    init = container("linkerd-init", cpu="1")
    ours = container("pytorch", cpu="4", memory="8Gi")
    spec = {"containers": [container("istio-proxy", cpu="100m"), ours]}

    asked = asks({"spec": {**spec, "initContainers": [init, native]}})

    assert asked == {"cpu": "4 + 100m + 50m", "memory": "8Gi"}


def test_the_operators_event_of_a_sidecar_tells_no_failure() -> None:
    def event(container: str) -> dict[str, Any]:
        words = f"Error pod p container {container} exitCode: 137 terminated message: gone"
        return {"reason": "Error", "message": words}

    assert PyTorchJob().failure_in(event("istio-proxy")) is None
    failure = PyTorchJob().failure_in(event("pytorch"))
    assert failure is not None
    assert (failure.pod, failure.code, failure.reason) == ("p", 137, "gone")
