"""The state of a task, from its objects on the cluster. No requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from hbseg.cluster import kinds
from hbseg.cluster.kinds import kind_of
from hbseg.cluster.objects import Object
from hbseg.cluster.observe.observation import Observation
from hbseg.cluster.observe.pending import event_time, job_reason
from hbseg.cluster.pods.containers import main_container
from hbseg.cluster.pods.states import (
    Failure,
    created_of,
    failure_of_pod,
    has_ended,
    has_succeeded,
    is_leaving,
    is_running,
    name_of,
    root_cause,
    sidecar_problem,
)
from hbseg.cluster.requests.api_errors import one_line
from hbseg.exit_codes import StepExit
from hbseg.runs.backend import JobState, Phase
from hbseg.system.clock import parse

SIDECAR_SECONDS: Final = 10.0
"""Seconds after the end of the last main container in which sidecars may end by themselves; then
the job counts as ended, though its controller waits for them without limit."""
INJECTION_HINT: Final = (
    "turn off its injection by cluster.labels or cluster.annotations, "
    'e.g. sidecar.istio.io/inject: "false"'
)
"""What to do about a sidecar that does not end."""


def job_state(observation: Observation) -> JobState:
    """Return phase, root cause and reason of a task; attempt 0 where no pod records one."""
    if observation.job is None or is_leaving(observation.job):
        return _leaving(observation)
    ended = ended_condition(observation.job)
    if ended is None:
        return _under_way(observation, observation.job)
    if ended["type"] == kind_of(observation.job).succeeded:
        return JobState(Phase.SUCCEEDED, 0, 0)
    if observation.cancelled:
        return _CANCELLED
    return _failed(observation, ended)


def ended_condition(job: Object) -> Object | None:
    """Return the condition of a job that says how it ended; none if it has not."""
    ends = (kind_of(job).succeeded, kind_of(job).failed)
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("status") == "True" and condition["type"] in ends:
            return dict(condition)
    return None


def is_over(job: Object) -> bool:
    """Return whether a job has ended or is being deleted: another may replace it.

    Another may also replace a job whose sidecars alone are left (`JobState.is_kept_alive`).
    """
    return is_leaving(job) or ended_condition(job) is not None


_CANCELLED = JobState(Phase.CANCELLED, 0, StepExit.TERMINATED, "cancelled")


def _leaving(observation: Observation) -> JobState:
    working = [pod for pod in observation.pods if not has_ended(pod)]
    if any(is_leaving(pod) or is_running(pod) for pod in working):
        return JobState(Phase.RUNNING, 0, None, "it is being stopped")
    if observation.cancelled:
        return _CANCELLED
    if observation.job is None:
        return JobState(Phase.ABSENT)
    return JobState(Phase.RUNNING, 0, None, "its job is being deleted")


def _under_way(observation: Observation, job: Object) -> JobState:
    pods = latest(observation.pods)
    if (state := _beside_sidecars(job, pods, observation.now)) is not None:
        return state
    failure = root_cause(_failures(pods)) or _failure_in_events(job, observation.events)
    attempt = 0 if failure is None else failure.attempt
    if _runs(job, pods):
        return JobState(Phase.RUNNING)
    reason = job_reason(job, pods, observation.events, observation.now, observation.workload)
    if failure is not None and not kind_of(job).is_suspended(job):
        last = f"attempt {attempt}" if attempt else "the last attempt"
        last = f"{last} failed with code {failure.code}: {failure.reason}"
        again = "" if failure.final else "; it starts again"
        reason = f"{reason} ({last})" if reason else f"{last}{again}"
    return JobState(Phase.PENDING, attempt, None, reason or "its container is being created")


def _beside_sidecars(job: Object, pods: Sequence[Object], now: datetime) -> JobState | None:
    """Return how a job's main containers ended, where sidecars keep the job from ending.

    None while a main container has not ended, and where no sidecar is in the way.
    """
    problem = next(filter(None, map(sidecar_problem, pods)), "")
    if not problem or len(pods) < kind_of(job).num_pods(job) or not all(map(has_ended, pods)):
        return None
    failure = root_cause(_failures(pods))
    attempt, code = (0, 0) if failure is None else (failure.attempt, failure.code)
    cause = "" if failure is None else f"{failure.reason}; "
    reason = f"{cause}the step has ended, but {problem}"
    if _seconds_since_end(pods, now) < SIDECAR_SECONDS:
        return JobState(Phase.RUNNING, attempt, code, reason)
    phase = Phase.SUCCEEDED if failure is None else Phase.FAILED
    return JobState(phase, attempt, code, f"{reason}; {INJECTION_HINT}", is_kept_alive=True)


def _seconds_since_end(pods: Iterable[Object], now: datetime) -> float:
    """Return the seconds since the last main container ended; many if the kubelet does not tell."""
    ends = [str((main_container(pod).end or {}).get("finishedAt") or "") for pod in pods]
    try:
        return (now - parse(max(ends))).total_seconds()
    except ValueError:
        return SIDECAR_SECONDS


def _runs(job: Object, pods: Sequence[Object]) -> bool:
    """Return whether the step runs: a gang in all its pods, another job in any."""
    kind = kind_of(job)
    num_well = sum(is_running(pod) or has_succeeded(pod) for pod in pods)
    return num_well >= (kind.num_pods(job) if kind.is_gang else 1)


def latest(pods: Iterable[Object]) -> list[Object]:
    """Return the newest pod of each replica, by their names; one that has succeeded stays.

    A batch Job keeps the pods of earlier attempts, which say nothing about the latest one. It makes
    another pod after one whose main container has succeeded where a sidecar of it has failed.
    """
    replica_labels = [label for kind in kinds.KINDS for label in kind.replica_labels]
    newest: dict[tuple[str, ...], Object] = {}
    for pod in sorted(pods, key=lambda pod: (has_succeeded(pod), created_of(pod))):
        labels = pod["metadata"].get("labels") or {}
        newest[tuple(str(labels.get(label, "")) for label in replica_labels)] = pod
    return sorted(newest.values(), key=name_of)


def _failed(observation: Observation, condition: Object) -> JobState:
    pods = latest(observation.pods)
    if observation.job is not None and _has_done_all(observation.job, pods):
        return JobState(Phase.SUCCEEDED, 0, 0)
    cause = root_cause(_failures(pods))
    if condition.get("reason") == "DeadlineExceeded":
        limit = (observation.job or {}).get("spec", {}).get("activeDeadlineSeconds")
        return JobState(
            Phase.FAILED, 0, StepExit.TERMINATED, f"it ran longer than its deadline of {limit} s"
        )
    if cause is None and observation.job is not None:
        cause = _failure_in_events(observation.job, observation.events)
    if cause is None:
        return JobState(Phase.FAILED, 0, None, one_line(str(condition.get("message") or "")))
    return JobState(Phase.FAILED, cause.attempt, cause.code, cause.reason)


def _has_done_all(job: Object, pods: Sequence[Object]) -> bool:
    """Return whether all main containers have succeeded: only sidecars can have failed."""
    return len(pods) >= kind_of(job).num_pods(job) and all(map(has_succeeded, pods))


def _failures(pods: Sequence[Object]) -> list[Failure]:
    return [failure for pod in pods if (failure := failure_of_pod(pod)) is not None]


def _failure_in_events(job: Object, events: Iterable[Object]) -> Failure | None:
    """Return the last failure that the job's events record."""
    for event in sorted(events, key=event_time, reverse=True):
        if event["involvedObject"].get("uid") == job["metadata"].get("uid"):
            failure = kind_of(job).failure_in(event)
            if failure is not None:
                return failure
    return None
