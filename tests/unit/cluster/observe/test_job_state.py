"""States of jobs, from objects that a real cluster had."""

import json
from typing import Any

import pytest

from hbseg.cluster.observe.job_state import job_state
from hbseg.cluster.observe.observation import Observation
from hbseg.runs.backend import JobState, Phase
from tests.unit.cluster.conftest import captured


def ending(code: int, reason: str, **more: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "hbseg/v1",
            "kind": "Ending",
            "code": code,
            "reason": reason,
            "attempt": 2,
            "finished": "2026-01-01T00:00:05Z",
            **more,
        }
    )


def ended(pod: Any, code: int, message: str = "", reason: str = "Error") -> None:
    """Make a running pod one whose container ended."""
    state = {"exitCode": code, "reason": reason, "message": message}
    pod["status"]["containerStatuses"][0]["state"] = {
        "terminated": state | {"finishedAt": "2026-01-01T00:00:06Z"}
    }


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("success", Phase.SUCCEEDED),
        ("jobok", Phase.SUCCEEDED),
        ("two", Phase.RUNNING),
        ("running", Phase.RUNNING),
        ("gpu", Phase.PENDING),
        ("suspended", Phase.PENDING),
    ],
)
def test_a_real_job_has_its_phase(name: str, phase: Phase) -> None:
    assert job_state(captured(name)).phase == phase


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("exit65", JobState(Phase.FAILED, 1, 65, "image x is damaged")),
        ("givenup", JobState(Phase.FAILED, 3, 170, "storage out")),
        ("job65", JobState(Phase.FAILED, 1, 65, "bad")),
        ("indexed", JobState(Phase.FAILED, 1, 70, "a bug")),
        ("deadline", JobState(Phase.FAILED, 0, 143, "it ran longer than its deadline of 3 s")),
    ],
)
def test_a_real_failure_has_code_and_reason_of_the_termination_message(
    name: str, state: JobState
) -> None:
    assert job_state(captured(name)) == state


@pytest.mark.parametrize(
    ("name", "attempt", "reason"),
    [
        ("again_later", 1, "attempt 1 failed with code 170: peer lost; it starts again"),
        ("job170_later", 1, "attempt 1 failed with code 170: storage out; it starts again"),
        (
            "oom_later",
            0,
            "the last attempt failed with code 137: out of memory: oom-master-0 reached its limit "
            "of 64Mi; set cluster.memory_per_process higher; it starts again",
        ),
    ],
)
def test_between_two_attempts_a_job_is_pending_with_its_last_failure(
    name: str, attempt: int, reason: str
) -> None:
    assert job_state(captured(name)) == JobState(Phase.PENDING, attempt, None, reason)


def test_a_command_that_cannot_be_started_is_told_though_its_pod_is_gone() -> None:
    seen = captured("nocommand_later", pods=[])

    state = job_state(seen)

    assert state.phase == Phase.PENDING
    assert "its container cannot start" in state.reason
    assert '"/nope"' in state.reason


def test_of_two_pods_the_one_with_a_cause_of_its_own_tells_why() -> None:
    seen = captured("two")
    assert seen.job is not None
    lost, cause = seen.pods
    ended(lost, 170, ending(170, "lost rank 1", peer_lost=True, finished="2026-01-01T00:00:01Z"))
    ended(cause, 65, ending(65, "image x is damaged", rank=1))
    seen.job["status"]["conditions"].append({"type": "Failed", "status": "True"})

    assert job_state(seen) == JobState(Phase.FAILED, 2, 65, "image x is damaged")


def test_of_two_causes_the_earliest_tells_why() -> None:
    seen = captured("two")
    assert seen.job is not None
    late, early = seen.pods
    ended(late, 70, ending(70, "late"))
    ended(early, 65, ending(65, "early", finished="2026-01-01T00:00:04Z"))
    seen.job["status"]["conditions"].append({"type": "Failed", "status": "True"})

    assert job_state(seen).reason == "early"


def test_a_pod_that_its_node_lost_or_evicted_says_so() -> None:
    seen = captured("two")
    assert seen.job is not None
    evicted: Any
    evicted, lost = seen.pods
    ended(evicted, 137)
    evicted["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "low on disk"}
    ended(lost, 143)
    lost["status"]["conditions"].append(
        {"type": "DisruptionTarget", "status": "True", "message": "preempted by another pod"}
    )
    seen.job["status"]["conditions"].append({"type": "Failed", "status": "True"})

    state = job_state(seen)

    assert (state.exit_code, state.reason) == (
        137,
        "two-worker-0 was evicted from node node-a: low on disk",
    )
    alone = job_state(Observation(seen.job, [lost], seen.now))
    assert alone.reason == "two-worker-1 had to leave node node-a: preempted by another pod"


def test_a_training_runs_when_all_its_pods_do_and_a_batch_job_with_the_first() -> None:
    seen = captured("two")
    waiting = seen.pods[1]
    waiting["status"]["containerStatuses"][0]["state"] = {
        "waiting": {"reason": "ContainerCreating"}
    }
    waiting["status"]["phase"] = "Pending"

    state = job_state(seen)
    assert state.phase == Phase.PENDING
    assert state.reason == "1 of 2 pods wait: two-worker-1: its container is being created"

    indexed = captured("indexed")
    assert indexed.job is not None
    indexed.job["status"]["conditions"] = []
    running = {**indexed.pods[0], "metadata": {**indexed.pods[0]["metadata"], "name": "other"}}
    running["metadata"]["labels"] = {"batch.kubernetes.io/job-completion-index": "0"}
    running["status"] = {"containerStatuses": [{"name": "step", "state": {"running": {}}}]}
    assert job_state(Observation(indexed.job, [running], indexed.now)).phase == Phase.RUNNING


def test_a_deleted_job_is_being_stopped_while_its_pods_are_there_then_cancelled() -> None:
    seen = captured("stopping", cancelled=True)
    assert seen.job is None

    assert job_state(seen) == JobState(Phase.RUNNING, 0, None, "it is being stopped")
    gone = Observation(None, [], seen.now, cancelled=True)
    assert job_state(gone) == JobState(Phase.CANCELLED, 0, 143, "cancelled")
    assert job_state(Observation(None, [], seen.now)) == JobState(Phase.ABSENT)


def test_a_message_that_is_not_ours_is_shown_as_it_is() -> None:
    seen = captured("two")
    assert seen.job is not None
    ended(seen.pods[0], 1, "sh: 1: python: not found\n")
    seen.job["status"]["conditions"].append({"type": "Failed", "status": "True"})

    state = job_state(Observation(seen.job, seen.pods[:1], seen.now))

    assert state.exit_code == 1
    assert state.reason == "two-worker-0 ended with exit code 1: sh: 1: python: not found"
