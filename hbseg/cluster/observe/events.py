"""The cluster's events of a run, each once with its count. No requests."""

from __future__ import annotations

from collections.abc import Iterable

from hbseg.cluster import kinds
from hbseg.cluster.objects import Object
from hbseg.cluster.observe.pending import event_time
from hbseg.cluster.requests.api_errors import one_line
from hbseg.runs.backend import RunEvent


def is_about(event: Object, names: Iterable[str], uids: Iterable[str] = ()) -> bool:
    """Return whether an event is about one of these jobs, or a pod of them.

    Deleted pods are recognised by name: the job's name, a dash and a suffix.
    """
    about = event["involvedObject"]
    if about.get("uid") in set(uids):
        return True
    name, kind = str(about.get("name") or ""), about.get("kind")
    if kinds.named_kind(str(kind)) is not None:
        return name in set(names)
    return kind == "Pod" and any(
        name.startswith(f"{job}-") and _is_pod_of(name, job) for job in names
    )


def _is_pod_of(name: str, job: str) -> bool:
    """Return whether a pod's name is the job's name with the suffix that its kind gives to pods."""
    words = name.removeprefix(f"{job}-").split("-")
    return any(kind.is_pod_name(words) for kind in kinds.KINDS)


def aggregated(events: Iterable[Object]) -> list[RunEvent]:
    """Return events by time; those that differ only in a pod's random name become one."""
    found: dict[tuple[str, ...], RunEvent] = {}
    for event in sorted(events, key=event_time):
        told = _told(event)
        key = (told.about, told.kind, told.reason, _without_pod(event, told.message))
        before = found.pop(key, None)
        count = told.count + (0 if before is None else before.count)
        found[key] = RunEvent(told.time, told.about, told.kind, told.reason, told.message, count)
    return list(found.values())


def _told(event: Object) -> RunEvent:
    about = event["involvedObject"]
    series = event.get("series") or {}
    return RunEvent(
        time=event_time(event)[:19] + "Z",
        about=f"{about.get('kind')}/{about.get('name')}",
        kind=str(event.get("type") or "Normal"),
        reason=str(event.get("reason") or ""),
        message=one_line(str(event.get("message") or "")),
        count=int(series.get("count") or event.get("count") or 1),
    )


def _without_pod(event: Object, message: str) -> str:
    """Return the message without names of pods, whose random suffix changes with each try."""
    job = str(event["involvedObject"].get("name") or "")
    words = message.split('"')
    return '"'.join("" if word.startswith(f"{job}-") else word for word in words)
