"""Why jobs are pending, from objects that a real cluster had."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from hbseg.cluster.observe.job_state import job_state
from hbseg.cluster.observe.observation import Observation
from hbseg.cluster.observe.pending import job_reason
from hbseg.cluster.observe.scheduler_messages import refused_pod, unschedulable
from hbseg.runs.backend import Phase
from tests.unit.cluster.conftest import captured

POD: dict[str, Any] = {
    "spec": {
        "containers": [
            {"name": "pytorch", "resources": {"limits": {"nvidia.com/gpu": "4", "memory": "8Gi"}}}
        ],
        "nodeSelector": {"gpu": "h100"},
    }
}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "gpu",
            "needs 4 nvidia.com/gpu on one node, no node has that free "
            "(1 node: 1 too few nvidia.com/gpu)",
        ),
        (
            "cpu",
            "needs 90 cpu, 900Gi memory on one node, no node has that free "
            "(1 node: 1 too few cpu, 1 too few memory)",
        ),
        ("selector", "no free node has the labels gpu=h100 (1 node: 1 without these labels)"),
        ("claim", "volume claim nowhere does not exist; create it, or correct cluster.volumes"),
        ("unbound", "volume claim unbound is not bound to a volume"),
        (
            "image",
            "image localhost/nothere:1 cannot be pulled: dial tcp 127.0.0.1:80: connect: "
            "connection refused",
        ),
        (
            "badimage",
            'image UPPER//x cannot be pulled: Failed to apply default image tag "UPPER//x": '
            'couldn\'t parse image name "UPPER//x": invalid reference format',
        ),
        (
            "secret",
            'its container cannot be created: secret "hbseg-s3" not found; create it, or correct '
            "cluster.credentials_secret",
        ),
        (
            "configmap",
            "its volumes or network are not ready: MountVolume.SetUp failed for volume "
            '"v" : configmap "hbseg-spec-x" not found',
        ),
        (
            "account",
            "service account nobody does not exist; correct cluster.service_account",
        ),
        (
            "quota",
            "quota compute is used up: asks for requests.cpu=2, used requests.cpu=0, "
            "limit requests.cpu=1",
        ),
        (
            "jobquota",
            "quota compute is used up: asks for requests.cpu=2, used requests.cpu=0, "
            "limit requests.cpu=1",
        ),
        ("suspended", "it is suspended"),
    ],
)
def test_a_real_job_says_why_it_waits(name: str, reason: str) -> None:
    state = job_state(captured(name))

    assert state.phase == Phase.PENDING
    assert state.reason == reason


@pytest.mark.parametrize("name", ["psa", "jobpsa"])
def test_pods_that_pod_security_refuses_say_what_they_lack(name: str) -> None:
    reason = job_state(captured(name)).reason

    assert reason.startswith("Pod Security restricted:latest refuses its pods: runAsNonRoot")
    assert "\n" not in reason


def test_an_operator_that_does_not_react_is_the_reason_after_a_while() -> None:
    seen = captured("account", events=[])
    assert seen.job is not None
    assert job_state(seen).reason.startswith("the training operator has not seen the job; is it")
    early = Observation(seen.job, [], seen.now - timedelta(seconds=15))
    assert job_state(early).reason == "waits for its pods to be created"
    batch = captured("jobquota", events=[])
    assert "job controller" in job_state(batch).reason


def test_a_job_in_a_queue_says_what_the_queue_waits_for() -> None:
    seen = captured("suspended")
    assert seen.job is not None
    seen.job["metadata"].setdefault("labels", {})["kueue.x-k8s.io/queue-name"] = "team-a"
    workload = {
        "status": {
            "conditions": [
                {
                    "type": "QuotaReserved",
                    "status": "False",
                    "message": "insufficient unused quota for nvidia.com/gpu, 2 more needed",
                }
            ]
        }
    }

    assert job_state(seen).reason == "waits in queue team-a"
    told = job_state(Observation(seen.job, [], seen.now, workload=workload)).reason
    assert told == (
        "waits in queue team-a: insufficient unused quota for nvidia.com/gpu, 2 more needed"
    )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "0/3 nodes are available: 1 node(s) had untolerated taint {spot: true}, 2 Insufficient "
            "nvidia.com/gpu. preemption: 0/3 nodes are available: 1 Preemption is not helpful for "
            "scheduling, 2 No preemption victims found for incoming pod.",
            "needs 4 nvidia.com/gpu on one node, no node has that free "
            "(3 nodes: 1 tainted {spot: true}, 2 too few nvidia.com/gpu)",
        ),
        (
            "0/2 nodes are available: 2 node(s) had untolerated taint(s). no new claims to "
            "deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful.",
            "every node has a taint that the pods do not tolerate (2 nodes: 2 tainted)",
        ),
        (
            "0/2 nodes are available: 1 Too many pods, 1 node(s) were unschedulable.",
            "no node takes it (2 nodes: 1 full of pods, 1 cordoned)",
        ),
        ("0/1 nodes are available: something new.", "no node takes it: something new"),
        ("words that nobody knows", "words that nobody knows"),
    ],
)
def test_the_schedulers_words_are_told_in_short(message: str, reason: str) -> None:
    assert unschedulable(POD, message) == reason


def test_a_refusal_of_another_kind_is_told_in_its_own_words() -> None:
    assert refused_pod("Error creating: pods is\nforbidden: because") == (
        "its pods cannot be created: pods is forbidden: because"
    )


def api_error(uid: str, time: str) -> dict[str, Any]:
    quota = "exceeded quota: q, requested: cpu=4, used: cpu=0, limited: cpu=2"
    return {
        "metadata": {},
        "involvedObject": {"kind": "Job", "name": "j", "uid": uid},
        "reason": "FailedCreate",
        "message": quota,
        "lastTimestamp": time,
    }


def batch_reason(*events: dict[str, Any], pods: tuple[dict[str, Any], ...] = ()) -> str:
    created = "2026-01-01T00:01:00Z"
    metadata = {"name": "j", "uid": "this", "creationTimestamp": created}
    now = datetime.fromisoformat("2026-01-01T00:02:00Z")
    return job_reason({"kind": "Job", "metadata": metadata}, pods, events, now, None)


def test_what_was_refused_to_an_earlier_job_of_the_name_is_no_reason_now() -> None:
    earlier = api_error("earlier", "2026-01-01T00:00:00Z")
    assert batch_reason(earlier).startswith("the cluster's job controller has not seen the job")
    assert batch_reason(earlier, api_error("this", "2026-01-01T00:01:01Z")).startswith("quota q is")


def test_of_several_pods_one_that_cannot_be_made_is_the_reason() -> None:
    made = {"name": "p", "creationTimestamp": "2026-01-01T00:01:10Z"}
    pod = {"metadata": made, "spec": {}, "status": {"phase": "Running"}}
    before, after = (api_error("this", f"2026-01-01T00:01:{second}Z") for second in ("01", "11"))
    assert batch_reason(before, pods=(pod,)) == ""
    assert batch_reason(before, after, pods=(pod,)).startswith("quota q is used up")
