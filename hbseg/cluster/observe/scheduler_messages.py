"""Messages of the scheduler and of quotas, shortened, with what the pod requests."""

from __future__ import annotations

import re

from hbseg.cluster.objects import Object
from hbseg.cluster.pods.containers import main_name
from hbseg.cluster.requests.api_errors import one_line

_NODES = re.compile(r"^0/(\d+) nodes are available: (.*)$", re.S)
_REST = re.compile(r"\.? (?:no new claims to deallocate|preemption: |not found$).*$", re.S)
_PIECE = re.compile(r"(\d+) (Insufficient \S+?|Too many pods|node\(s\) .+?)(?=, \d+ |\.?$)")
_QUOTA = re.compile(
    r"exceeded quota: (?P<name>\S+), requested: (?P<asked>\S+), used: (?P<used>\S+), "
    r"limited: (?P<limit>\S+)"
)
_SECURITY = re.compile(r'violates PodSecurity "(?P<level>[^"]*)": (?P<what>.*)$', re.S)
_ACCOUNT = re.compile(r'serviceaccount "(?P<name>[^"]*)" not found')


def unschedulable(pod: Object, message: str) -> str:
    """Return why no node takes a pod, from the message of its condition `PodScheduled`.

    For example: `needs 4 nvidia.com/gpu on one node, no node has that free (3 nodes: 2 too few
    nvidia.com/gpu, 1 tainted)`.
    """
    message = one_line(message)
    if claim := _claim(pod, message):
        return claim
    match = _NODES.match(message)
    if match is None:
        return message
    words = _REST.sub("", match[2]).rstrip(".")
    pieces = [(int(count), what) for count, what in _PIECE.findall(words)]
    if not pieces:
        return f"no node takes it: {words}"
    told = ", ".join(f"{count} {_shorter(what)}" for count, what in pieces)
    number = int(match[1])
    nodes = f"({number} node{'s' if number != 1 else ''}: {told})"
    return f"{_headline(pod, [what for _, what in pieces])} {nodes}"


def _headline(pod: Object, what: list[str]) -> str:
    missing = [item.removeprefix("Insufficient ") for item in what if item.startswith("Ins")]
    if missing:
        asked = asks(pod)
        needs = ", ".join(f"{asked.get(name, '')} {name}".strip() for name in missing)
        return f"needs {needs} on one node, no node has that free"
    selector = pod["spec"].get("nodeSelector") or {}
    if selector and any("affinity/selector" in item for item in what):
        labels = ",".join(f"{name}={value}" for name, value in sorted(selector.items()))
        return f"no free node has the labels {labels}"
    if all("taint" in item for item in what):
        return "every node has a taint that the pods do not tolerate"
    return "no node takes it"


def _shorter(what: str) -> str:
    if what.startswith("Insufficient "):
        return f"too few {what.removeprefix('Insufficient ')}"
    if match := re.match(r"node\(s\) had untolerated taint\(?s?\)? ?(\{.*\})?", what):
        return f"tainted {match[1]}" if match[1] else "tainted"
    known = {
        "Too many pods": "full of pods",
        "node(s) didn't match Pod's node affinity/selector": "without these labels",
        "node(s) were unschedulable": "cordoned",
        "node(s) had volume node affinity conflict": "away from the volume",
    }
    return known.get(what, what.removeprefix("node(s) "))


def _claim(pod: Object, message: str) -> str:
    if match := re.search(r'persistentvolumeclaim "([^"]*)" not found', message):
        return f"volume claim {match[1]} does not exist; create it, or correct cluster.volumes"
    if "unbound immediate PersistentVolumeClaims" in message:
        names = ", ".join(_claims(pod)) or "of the pod"
        return f"volume claim {names} is not bound to a volume"
    return ""


def _claims(pod: Object) -> list[str]:
    volumes = pod["spec"].get("volumes") or []
    claims = (volume.get("persistentVolumeClaim") for volume in volumes)
    return sorted(claim["claimName"] for claim in claims if claim)


def asks(pod: Object) -> dict[str, str]:
    """Return what the pod requests: resource, quantity.

    Quantities of sidecars follow that of the main container: `4 + 100m`.
    """
    spec, main = pod["spec"], main_name(pod)
    found: dict[str, list[str]] = {}
    native = [c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    for item in sorted((*spec["containers"], *native), key=lambda item: item["name"] != main):
        resources = item.get("resources") or {}
        asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        for name, quantity in asked.items():
            found.setdefault(name, []).append(quantity)
    return {name: " + ".join(quantities) for name, quantities in found.items()}


def refused_pod(message: str) -> str:
    """Return why the API server refuses to create a job's pods, from the event's message."""
    message = one_line(message)
    if match := _QUOTA.search(message):
        return (
            f"quota {match['name']} is used up: asks for {match['asked']}, used {match['used']}, "
            f"limit {match['limit']}"
        )
    if match := _SECURITY.search(message):
        return f"Pod Security {match['level']} refuses its pods: {match['what'][:300]}"
    if match := _ACCOUNT.search(message):
        return f"service account {match['name']} does not exist; correct cluster.service_account"
    return f"its pods cannot be created: {message.removeprefix('Error creating: ')[:300]}"
