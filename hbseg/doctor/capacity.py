"""Whether the training that is meant has room: in the namespace's quota, and on the nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from typing import Final

from hbseg.cluster.kinds import kind_of
from hbseg.cluster.objects import Object
from hbseg.cluster.pods.quantity import amount
from hbseg.cluster.requests.resources import NODE, RESOURCE_QUOTA
from hbseg.config.kubernetes_types import given
from hbseg.doctor.check import Check, failed, ok, unknown, warning
from hbseg.doctor.subject import Subject, pod_of

REFUSED_WITHOUT: Final = frozenset(("limits.cpu", "limits.memory"))
"""Limits that a pod must have where a quota counts them; without any other it counts as 0
(Kubernetes, pkg/quota/v1/evaluator/core/pods.go)."""
SETTABLE: Final = {
    "limits.cpu": "cluster.limits.cpu",
    "limits.ephemeral-storage": "cluster.limits.ephemeral_storage",
}
"""Keys of the profile by the limits that they set."""

Amounts = dict[str, Fraction]
"""Cores, bytes or pieces by the name of the resource."""


def quota(subject: Subject) -> Iterator[Check]:
    """Whether what the training needs is left in each quota of the namespace."""
    found = subject.cluster.list(RESOURCE_QUOTA)
    if not found:
        yield ok("quota", "the namespace has none")
    needed = _needed(subject)
    for item in found:
        yield from _quota(item, needed)


def _needed(subject: Subject) -> Amounts:
    """Return what a quota counts of the training, by the quota's names."""
    training = subject.training("doctor")
    template, pods = pod_of(training)
    resources = template["spec"]["containers"][0]["resources"]
    needed = {"pods": Fraction(pods), f"count/{kind_of(training).resource.named}": Fraction(1)}
    for kind in ("requests", "limits"):
        for name, quantity in resources[kind].items():
            needed[f"{kind}.{name}"] = pods * amount(quantity)
    short = {name: needed[f"requests.{name}"] for name in ("cpu", "memory", "ephemeral-storage")}
    return needed | short


def _quota(item: Object, needed: Amounts) -> Iterator[Check]:
    name = item["metadata"]["name"]
    spec, status = item.get("spec") or {}, item.get("status") or {}
    if spec.get("scopes") or spec.get("scopeSelector"):
        yield unknown("quota", f"{name} is for some pods only: not compared")
        return
    hard, used = status.get("hard") or spec.get("hard") or {}, status.get("used") or {}
    yield from _limits(name, sorted(n for n in hard if n.startswith("limits.") and n not in needed))
    yield _room(name, needed, hard, used)


def _limits(name: str, missing: list[str]) -> Iterator[Check]:
    """Yield what comes of limits that a quota counts and our pods do not have."""
    for limit in missing:
        text = f"{name} counts {limit}, and our pods have no such limit"
        key = SETTABLE.get(limit)
        fix = f"set {key}" if key else f"ask for a quota without {limit}"
        if limit in REFUSED_WITHOUT:
            yield failed("quota", f"{text}: it refuses them", fix)
        else:
            yield warning("quota", f"{text}: it lets them in and counts nothing", fix)


def _room(name: str, needed: Amounts, hard: Mapping[str, str], used: Mapping[str, str]) -> Check:
    never = _short(needed, hard, {})
    if never:
        return failed(
            "quota", f"{name} allows {'; '.join(never)}", "ask for more, or give a smaller -j"
        )
    now = _short(needed, hard, used)
    if now:
        return warning(
            "quota", f"{name} has left {'; '.join(now)}", "wait for other jobs, or ask for more"
        )
    return ok("quota", f"{name} has room: {_told(hard, used)}")


def _short(needed: Amounts, hard: Mapping[str, str], used: Mapping[str, str]) -> list[str]:
    """Return what is too little, e.g. `2 of requests.nvidia.com/gpu, needed are 8`."""
    short, allowed, taken = [], _amounts(hard), _amounts(used)
    for name in needed.keys() & allowed.keys():
        left = allowed[name] - taken.get(name, 0)
        if left < needed[name]:
            short.append(f"{_plain(left)} of {name}, needed are {_plain(needed[name])}")
    return sorted(short)


def _told(hard: Mapping[str, str], used: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {used.get(name, '0')}/{hard[name]}" for name in sorted(hard))


def nodes(subject: Subject) -> Iterator[Check]:
    """Whether there are nodes that can hold the training's pods, whatever else runs there now."""
    template, pods = pod_of(subject.training("doctor"))
    asked = template["spec"]["containers"][0]["resources"]["requests"]
    needed = {name: amount(quantity) for name, quantity in asked.items()}
    gpu = subject.training_profile.gpu_resource
    usable = [_allocatable(node) for node in _suitable(subject)]
    fits = sum(_count(node, needed) for node in usable)
    largest = max((node.get(gpu, Fraction(0)) for node in usable), default=Fraction(0))
    if fits >= pods:
        has = f"{len(usable)} fit by labels and taints, the largest with {largest} of {gpu}"
        yield ok("nodes", f"{has}; a pod asks for {needed.get(gpu, 0)}")
    elif fits:
        text = f"room for {fits} of the {pods} pods, if nothing else runs"
        yield failed("nodes", text, "give fewer nodes in -j; or an autoscaler adds some")
    else:
        yield failed("nodes", _lack(usable, needed), _advice(usable, needed, gpu))


def _suitable(subject: Subject) -> Iterator[Object]:
    selector = given(subject.training_profile.node_selector).items()
    for node in subject.cluster.list(NODE):
        labels = node["metadata"].get("labels") or {}
        if selector <= labels.items() and not _is_closed(subject, node):
            yield node


def _is_closed(subject: Subject, node: Object) -> bool:
    """Return whether the node takes no new pods of ours."""
    spec = node.get("spec") or {}
    taints = [t for t in spec.get("taints") or [] if t.get("effect") != "PreferNoSchedule"]
    return bool(spec.get("unschedulable")) or not all(_tolerated(subject, t) for t in taints)


def _tolerated(subject: Subject, taint: Mapping[str, str]) -> bool:
    return any(
        toleration.effect in (None, taint.get("effect"))
        and toleration.key in (None, taint.get("key"))
        and (toleration.operator == "Exists" or (toleration.value or "") == taint.get("value", ""))
        for toleration in subject.training_profile.tolerations
    )


def _allocatable(node: Object) -> Amounts:
    return _amounts((node.get("status") or {}).get("allocatable") or {})


def _amounts(quantities: Mapping[str, str]) -> Amounts:
    """Return the amounts of quantities; one that cannot be read (`1e3`) is left out."""
    amounts = {}
    for name, quantity in quantities.items():
        with suppress(ValueError):
            amounts[name] = amount(quantity)
    return amounts


def _count(node: Amounts, needed: Amounts) -> int:
    """Return how many of the pods the node holds when it is empty."""
    return min(int(node.get(name, Fraction(0)) / n) for name, n in needed.items() if n)


def _short_of(node: Amounts, needed: Amounts) -> list[str]:
    """Return the resources that the node has too little of."""
    return [name for name, n in needed.items() if node.get(name, Fraction(0)) < n]


def _lack(usable: list[Amounts], needed: Amounts) -> str:
    """Return what the best node has too little of."""
    if not usable:
        return "none fits by labels and taints"
    best = min(usable, key=lambda node: len(_short_of(node, needed)))
    short = [
        f"{_plain(best.get(name, Fraction(0)))} of {name} where a pod asks for "
        f"{_plain(needed[name])}"
        for name in _short_of(best, needed)
    ]
    return f"none holds a pod, the best one has {', '.join(short)}"


def _advice(usable: list[Amounts], needed: Amounts, gpu: str) -> str:
    if not usable:
        return "correct cluster.node_selector and cluster.tolerations"
    if gpu in needed and not any(gpu in node for node in usable):
        return "is the device plugin installed, and cluster.gpu_resource right? (or an autoscaler)"
    return "ask for less by cluster.* in hbseg.yaml or by -j; or an autoscaler adds larger nodes"


def _plain(number: Fraction) -> str:
    """Return a number for people: bytes in GiB where there are many."""
    if number >= 2**30:
        return f"{float(number / 2**30):.1f}Gi"
    return str(number) if number.denominator == 1 else f"{float(number):.2f}"
