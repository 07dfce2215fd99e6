"""The state of a task from the objects that the cluster has of it. No requests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hbseg.backend import JobState, Phase
from hbseg.cluster.pods import (
    STOPPED,
    Failure,
    ending_in,
    failure_of_pod,
    has_succeeded,
    is_leaving,
    is_running,
    latest,
    of_ending,
    root_cause,
)
from hbseg.cluster.reasons import event_time, is_suspended, job_reason
from hbseg.cluster.refusals import one_line
from hbseg.cluster.resources import PYTORCH_JOB

Item = Mapping[str, Any]

_SUCCEEDED = frozenset({"Succeeded", "Complete"})
_POD_ERROR = re.compile(
    r"^Error pod (\S+) container \S+ exitCode: (\d+) terminated message: (.*)", re.S
)


@dataclass(frozen=True)
class Seen:
    """What the cluster has of one task at one moment."""

    job: Item | None
    """PyTorchJob or Job."""
    pods: Sequence[Item]
    now: datetime
    """Time by the server's clock."""
    events: Sequence[Item] = field(default=())
    """Those of the job and its pods; needed only while it is pending."""
    cancelled: bool = False
    """Whether the run's anchor records a cancel of the task."""
    workload: Item | None = None
    """Kueue's object for the job."""


def job_state(seen: Seen) -> JobState:
    """Return phase, root cause and reason of a task; its attempt is 0 where no pod says it."""
    if seen.job is None or is_leaving(seen.job):
        return _leaving(seen)
    ended = ended_condition(seen.job)
    if ended is None:
        return _under_way(seen, seen.job)
    if ended["type"] in _SUCCEEDED:
        return JobState(Phase.SUCCEEDED, 0, 0)
    if seen.cancelled:
        return _CANCELLED
    return _failed(seen, ended)


def ended_condition(job: Item) -> Item | None:
    """Return the condition that says that a job has ended, and how."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("status") == "True" and condition["type"] in {*_SUCCEEDED, "Failed"}:
            return dict(condition)
    return None


def is_over(job: Item) -> bool:
    """Return whether a job has ended or is being deleted: another one may take its place."""
    return is_leaving(job) or ended_condition(job) is not None


_CANCELLED = JobState(Phase.CANCELLED, 0, STOPPED, "cancelled")


def _leaving(seen: Seen) -> JobState:
    if any("deletionTimestamp" in pod["metadata"] or is_running(pod) for pod in seen.pods):
        return JobState(Phase.RUNNING, 0, None, "it is being stopped")
    if seen.cancelled:
        return _CANCELLED
    if seen.job is None:
        return JobState(Phase.ABSENT)
    return JobState(Phase.RUNNING, 0, None, "its job is being deleted")


def _under_way(seen: Seen, job: Item) -> JobState:
    pods = latest(seen.pods)
    failure = root_cause(_failures(pods)) or _told_failure(job, seen.events)
    attempt = 0 if failure is None else failure.attempt
    if _runs(job, pods):
        return JobState(Phase.RUNNING)
    reason = job_reason(job, pods, seen.events, seen.now, seen.workload)
    if failure is not None and not is_suspended(job):
        last = f"attempt {attempt}" if attempt else "the last attempt"
        last = f"{last} failed with code {failure.code}: {failure.reason}"
        again = "" if failure.final else "; it starts again"
        reason = f"{reason} ({last})" if reason else f"{last}{again}"
    return JobState(Phase.PENDING, attempt, None, reason or "its container is being created")


def _runs(job: Item, pods: Sequence[Item]) -> bool:
    """Return whether the step runs: in all pods of a training, in any of a batch Job."""
    num_well = sum(is_running(pod) or has_succeeded(pod) for pod in pods)
    return num_well >= (num_pods(job) if job["kind"] == PYTORCH_JOB.kind else 1)


def num_pods(job: Item) -> int:
    """Return how many pods a job has at a time."""
    spec = job.get("spec") or {}
    if job["kind"] == PYTORCH_JOB.kind:
        replicas = (spec.get("pytorchReplicaSpecs") or {}).values()
        return sum(int(replica.get("replicas") or 1) for replica in replicas)
    return min(int(spec.get("parallelism") or 1), int(spec.get("completions") or 1))


def _failed(seen: Seen, condition: Item) -> JobState:
    cause = root_cause(_failures(latest(seen.pods)))
    if condition.get("reason") == "DeadlineExceeded":
        limit = (seen.job or {}).get("spec", {}).get("activeDeadlineSeconds")
        return JobState(Phase.FAILED, 0, STOPPED, f"it ran longer than its deadline of {limit} s")
    if cause is None and seen.job is not None:
        cause = _told_failure(seen.job, seen.events)
    if cause is None:
        return JobState(Phase.FAILED, 0, None, one_line(str(condition.get("message") or "")))
    return JobState(Phase.FAILED, cause.attempt, cause.code, cause.reason)


def _failures(pods: Sequence[Item]) -> list[Failure]:
    return [failure for pod in pods if (failure := failure_of_pod(pod)) is not None]


def _told_failure(job: Item, events: Sequence[Item]) -> Failure | None:
    """Return the last failure as the operator's event tells it: it deletes the pod itself."""
    if job["kind"] != PYTORCH_JOB.kind:
        return None
    for event in sorted(events, key=event_time, reverse=True):
        match = _POD_ERROR.match(str(event.get("message") or ""))
        if match is None or event["involvedObject"].get("uid") != job["metadata"].get("uid"):
            continue
        told = ending_in(match[3])
        if told is not None:
            return of_ending(match[1], told)
        kinds = {"OOMKilled": "out of memory", "StartError": "its container cannot start: "}
        words = kinds.get(str(event.get("reason")), "") + one_line(match[3])[-300:]
        return Failure(match[1], int(match[2]), words or "no record", event_time(event))
    return None
