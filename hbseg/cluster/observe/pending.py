"""Why a job has not started yet, in one line. No requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from hbseg.cluster.kinds import kind_of
from hbseg.cluster.names import QUEUE
from hbseg.cluster.objects import Object
from hbseg.cluster.observe.scheduler_messages import refused_pod, unschedulable
from hbseg.cluster.pods.containers import Container, Role, containers
from hbseg.cluster.pods.states import created_of, has_started, name_of
from hbseg.cluster.requests.api_errors import DOCTOR, one_line
from hbseg.system.clock import parse

SILENCE_SECONDS: Final = 20.0
"""Seconds without a reaction of the operator after which that is the reason."""

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CREATE_FAILED = frozenset({"FailedCreate", "FailedCreatePod"})
_MOUNT = frozenset(
    {"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedMapVolume"}
)


def job_reason(
    job: Object,
    pods: Sequence[Object],
    events: Iterable[Object],
    now: datetime,
    workload: Object | None,
) -> str:
    """Return why a job is pending.

    Args:
        job: of any of `hbseg.cluster.kinds`.
        pods: its pods.
        events: those of the job and its pods.
        now: time by the server's clock.
        workload: Kueue's object for the job, where it is known.
    """
    events = sorted(events, key=event_time)
    if kind_of(job).is_suspended(job):
        return _queued(job, workload)
    waiting = [(name_of(pod), pod_reason(pod, events)) for pod in pods]
    waiting = [(name, reason) for name, reason in waiting if reason]
    if not waiting:
        return _refused(job, pods, events) or ("" if pods else _without_pods(job, events, now))
    name, reason = waiting[0]
    if len(waiting) > 1 or len(pods) > 1:
        return f"{len(waiting)} of {len(pods)} pods wait: {name}: {reason}"
    return reason


def _queued(job: Object, workload: Object | None) -> str:
    queue = (job["metadata"].get("labels") or {}).get(QUEUE)
    if queue is None:
        return "it is suspended"
    conditions = (workload or {}).get("status", {}).get("conditions") or []
    told = [
        one_line(str(condition.get("message") or ""))
        for condition in conditions
        if condition.get("status") == "False"
        and condition.get("type") in ("QuotaReserved", "Admitted")
    ]
    return f"waits in queue {queue}" + (f": {told[0][:300]}" if told and told[0] else "")


def _about(job: Object, events: Iterable[Object]) -> list[Object]:
    """Return the events of this job, not of an earlier one of the same name."""
    uid = job["metadata"].get("uid")
    return [item for item in events if item["involvedObject"].get("uid") == uid]


def _refused(job: Object, pods: Sequence[Object], events: Iterable[Object]) -> str:
    """Return why a pod could not be created, if that happened after the existing ones."""
    newest = max(map(created_of, pods), default="")
    refused = [
        str(item.get("message", ""))
        for item in _about(job, events)
        if item.get("reason") in _CREATE_FAILED
        and "already exists" not in str(item.get("message", ""))
        and event_time(item) >= newest
    ]
    return refused_pod(refused[-1]) if refused else ""


def _without_pods(job: Object, events: Iterable[Object], now: datetime) -> str:
    silent = not (job.get("status") or {}).get("conditions") and not _about(job, events)
    if silent and _age(job, now) > SILENCE_SECONDS:
        return f"{kind_of(job).controller} has not seen the job; is it running? {DOCTOR}"
    return "waits for its pods to be created"


def _age(item: Object, now: datetime) -> float:
    try:
        return (now - parse(created_of(item))).total_seconds()
    except ValueError:
        return 0.0


def pod_reason(pod: Object, events: Iterable[Object]) -> str:
    """Return why a pod's main container has not started, or nothing if it has.

    `events` are sorted by time. A sidecar that starts beside the main container is no reason, one
    that starts before it is.
    """
    status = pod.get("status") or {}
    if status.get("phase") not in (None, "Pending") or has_started(pod):
        return ""
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") != "True":
            if condition.get("reason") == "SchedulingGated":
                return "a gate holds it back from scheduling"
            return unschedulable(pod, str(condition.get("message") or ""))
    if not pod["spec"].get("nodeName"):
        return "waits for the scheduler"
    reasons = (_not_started(pod, container) for container in containers(pod))
    reason = next(filter(None, reasons), "")
    return reason or _mounting(pod, events) or "its container is being created"


def _not_started(pod: Object, container: Container) -> str:
    """Return why the pod waits for a container; empty where it does not."""
    waiting = container.state.get("waiting")
    if container.role == Role.NATIVE_SIDECAR:
        return _sidecar(pod, container)
    if waiting is None or container.role == Role.SIDECAR:
        return ""
    return _waiting(pod, container.name, waiting)


def _sidecar(pod: Object, container: Container) -> str:
    """Return why a sidecar keeps the main container from starting.

    While one crashes over and over, the sentence stays the same: each new one is told.
    """
    named = f"sidecar {container.name}"
    ended = container.end or (container.status.get("lastState") or {}).get("terminated")
    if ended is not None:
        words = one_line(str(ended.get("message") or ""))[-300:]
        code = f"exit code {ended.get('exitCode')}"
        return f"{named} ends again and again, last with {code}" + (f": {words}" if words else "")
    if "running" in container.state:
        return "" if container.status.get("started") else f"{named} is not ready yet"
    reason = _waiting(pod, container.name, container.state.get("waiting") or {})
    return f"{named}: {reason}" if reason else ""


def _waiting(pod: Object, container: str, waiting: Object) -> str:
    kind, message = str(waiting.get("reason") or ""), one_line(str(waiting.get("message") or ""))
    if kind in _IMAGE:
        return f"image {_image(pod, container)} cannot be pulled: {_pull_cause(kind, message)}"
    if kind in ("CreateContainerConfigError", "CreateContainerError"):
        return f"its container cannot be created: {message[:300]}{_config_hint(message)}"
    if kind == "CrashLoopBackOff":
        return f"its container ends again and again: {message[:300]}"
    return ""


def _pull_cause(kind: str, message: str) -> str:
    """Return the last error of a chain of errors, or the whole message if it is no chain."""
    if kind == "ErrImageNeverPull":
        return "it is not on the node, and cluster.image_pull_policy is Never"
    cause = (
        message.rpartition('": ')[2] if message.startswith(("Back-off", "failed to")) else message
    )
    return (cause or message or kind)[:300]


def _config_hint(message: str) -> str:
    missing_secret = message.startswith("secret ") and "not found" in message
    return "; create it, or correct cluster.credentials_secret" if missing_secret else ""


def _image(pod: Object, container: str) -> str:
    every = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
    return next((str(item["image"]) for item in every if item["name"] == container), "")


def _mounting(pod: Object, events: Iterable[Object]) -> str:
    """Return what the node reports while it prepares a pod's volumes and network."""
    told = [
        one_line(str(item.get("message") or ""))
        for item in events
        if item["involvedObject"].get("uid") == pod["metadata"].get("uid")
        and item.get("reason") in _MOUNT
    ]
    return f"its volumes or network are not ready: {told[-1][:300]}" if told else ""


def event_time(event: Object) -> str:
    """Return the last time of an event, ISO 8601, UTC."""
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    return next((str(time) for time in times if time), "")
