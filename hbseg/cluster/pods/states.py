"""What a pod's object says: whether it runs, and how its main container ended. No requests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hbseg.cluster.objects import Object
from hbseg.cluster.pods.containers import Container, Role, containers, main_container
from hbseg.cluster.requests.api_errors import one_line
from hbseg.errors import HbsegError
from hbseg.exit_codes import StepExit

if TYPE_CHECKING:
    from hbseg.runs.attempts import AttemptResult


@dataclass(frozen=True)
class Failure:
    """How a pod's container ended otherwise than well."""

    pod: str
    code: int
    """Exit code of the cause; 128 + n for signal n."""
    reason: str
    """One line."""
    finished: str
    """ISO 8601, UTC; empty where it is not known."""
    attempt: int = 0
    """Number of the execution; 0 where the pod does not say it."""
    final: bool = False
    """Whether the launcher says that no further attempt follows."""
    peer_lost: bool = False
    """Whether only another process was missed."""

    @property
    def weight(self) -> int:
        """How little it tells of the cause: 0 a failure of its own, 1 SIGTERM, 2 a lost peer."""
        return 2 if self.peer_lost else int(self.code == StepExit.TERMINATED)


def name_of(item: Object) -> str:
    """Return an object's name."""
    return str(item["metadata"]["name"])


def created_of(item: Object) -> str:
    """Return an object's time of creation, ISO 8601."""
    return str(item["metadata"].get("creationTimestamp", ""))


def is_leaving(item: Object) -> bool:
    """Return whether an object is being deleted."""
    return "deletionTimestamp" in item["metadata"]


def is_owned(item: Object, uid: str) -> bool:
    """Return whether an object belongs to the one with this uid."""
    owners = item["metadata"].get("ownerReferences") or []
    return any(owner.get("uid") == uid for owner in owners)


def is_running(pod: Object) -> bool:
    """Return whether the pod's main container runs."""
    return "running" in main_container(pod).state


def has_started(pod: Object) -> bool:
    """Return whether the pod's main container has run, so that there may be a log."""
    return is_running(pod) or has_ended(pod)


def has_ended(pod: Object) -> bool:
    """Return whether the pod's main container has ended, whatever its sidecars do."""
    return main_container(pod).end is not None


def has_succeeded(pod: Object) -> bool:
    """Return whether the pod's main container ended well."""
    return _is_well(main_container(pod))


def _is_well(container: Container) -> bool:
    return container.end is not None and container.end.get("exitCode") == 0


def sidecar_problem(pod: Object) -> str:
    """Return how a sidecar keeps the pod from ending as its main container did; empty: none does.

    A native sidecar never does: the kubelet ends it after the main container.
    """
    for container in containers(pod):
        if container.role != Role.SIDECAR:
            continue
        if container.end is None:
            return f"sidecar {container.name} keeps pod {name_of(pod)} from ending"
        if has_succeeded(pod) and not _is_well(container):
            code = container.end.get("exitCode")
            return f"sidecar {container.name} of pod {name_of(pod)} ended with exit code {code}"
    return ""


def failure_of_pod(pod: Object) -> Failure | None:
    """Return how the pod failed; none where it has not.

    Sidecars do not count: native ones are ended after the main container, mostly with 137.
    """
    if has_succeeded(pod):
        return None
    for container in containers(pod):
        counts = container.role in (Role.INIT, Role.MAIN)
        if counts and container.end is not None and not _is_well(container):
            return _of_container(pod, container, container.end)
    if (pod.get("status") or {}).get("phase") == "Failed":
        return Failure(name_of(pod), StepExit.TERMINATED, _of_node(pod) or "its pod failed", "")
    return None


def _of_container(pod: Object, container: Container, ended: Object) -> Failure:
    code, told = int(ended["exitCode"]), result_in(str(ended.get("message") or ""))
    finished = str(ended.get("finishedAt") or "")
    attempt = 0 if told is None else told.attempt
    if ended.get("reason") == "OOMKilled":
        reason = f"out of memory: {name_of(pod)} {_limit(pod, container.name)}"
        return Failure(name_of(pod), StepExit.KILLED, reason, finished, attempt)
    if told is not None:
        return of_result(name_of(pod), told)
    reason = _of_node(pod) or _without_word(pod, container, ended)
    return Failure(name_of(pod), code, reason, finished)


def of_result(pod: str, told: AttemptResult) -> Failure:
    """Return the failure that a launcher's record tells."""
    return Failure(
        pod, told.code, told.reason, told.finished, told.attempt, told.final, told.peer_lost
    )


def _without_word(pod: Object, container: Container, ended: Object) -> str:
    code, what = ended["exitCode"], name_of(pod)
    if container.role == Role.INIT:
        what = f"init container {container.name} of {what}"
    words = one_line(str(ended.get("message") or ""))[-300:]
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return f"its container cannot start: {words}"
    if code == StepExit.TERMINATED:
        return f"{what} was stopped by SIGTERM"
    said = f": {words}" if words else " and left no record"
    return f"{what} ended with exit code {code}{said}"


def _limit(pod: Object, container: str) -> str:
    for item in pod["spec"].get("containers", []):
        limit = ((item.get("resources") or {}).get("limits") or {}).get("memory")
        if item.get("name") == container and limit:
            return f"reached its limit of {limit}; set cluster.memory_per_process higher"
    return "used up its node's memory; set cluster.memory_per_process"


def _of_node(pod: Object) -> str:
    """Return why the cluster itself ended the pod; empty where it did not."""
    status = pod.get("status") or {}
    reason, message = str(status.get("reason") or ""), one_line(str(status.get("message") or ""))
    node = f"node {pod['spec'].get('nodeName') or 'unknown'}"
    if reason == "Evicted":
        return f"{name_of(pod)} was evicted from {node}: {message}"
    if reason in ("NodeLost", "NodeShutdown", "Terminated"):
        return f"{node} of {name_of(pod)} was lost: {message or reason}"
    if reason == "DeadlineExceeded":
        return f"{name_of(pod)} ran longer than its deadline"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            why = one_line(str(condition.get("message") or condition.get("reason") or ""))
            return f"{name_of(pod)} had to leave {node}: {why}"
    return reason and f"{name_of(pod)}: {reason} {message}".rstrip()


def result_in(text: str) -> AttemptResult | None:
    """Return the launcher's record in a termination message; none where it is no such one."""
    from hbseg.runs.attempts import AttemptResult

    with suppress(ValueError, HbsegError):
        return AttemptResult.from_mapping(json.loads(text), source="termination message")
    return None


def root_cause(failures: Iterable[Failure]) -> Failure | None:
    """Return the failure that the others follow from: of those that tell most, the earliest."""
    return min(
        failures,
        key=lambda failure: (failure.weight, failure.finished or "~", failure.pod),
        default=None,
    )
