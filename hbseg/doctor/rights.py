"""Whether we may do on the cluster what submitting and looking need."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from hbseg.cluster import kinds
from hbseg.cluster.requests.resources import CONFIG_MAP, EVENT, LEASE, POD, Resource
from hbseg.doctor.check import Check, failed, ok
from hbseg.doctor.subject import Subject

_ALL: Final = ("get", "list", "watch", "create", "patch", "delete")
_READ: Final = ("get", "list", "watch")
THREADS: Final = 8
"""Questions at a time."""


def needed() -> list[tuple[Resource, str, tuple[str, ...]]]:
    """Return kind, subresource and the verbs that a Role must allow."""
    return [
        *((kind.resource, "", _ALL) for kind in kinds.KINDS),
        (CONFIG_MAP, "", _ALL),
        (LEASE, "", _ALL),
        (POD, "", _READ),
        (POD, "log", ("get",)),
        (EVENT, "", _READ),
    ]


def rights(subject: Subject) -> Iterator[Check]:
    """Whether each verb that we need is allowed; missing ones as a rule for a Role."""
    asked = [(kind, below, verb) for kind, below, verbs in needed() for verb in verbs]
    with ThreadPoolExecutor(THREADS) as pool:
        allowed = pool.map(
            lambda ask: subject.cluster.can(ask[2], ask[0], subresource=ask[1]), asked
        )
        missing = [ask for ask, yes in zip(asked, allowed, strict=True) if not yes]
    if not missing:
        yield ok("rights", f"all {len(asked)} verbs that hbseg needs are allowed")
        return
    lacking: dict[tuple[Resource, str], list[str]] = {}
    for kind, below, verb in missing:
        lacking.setdefault((kind, below), []).append(verb)
    named = "; ".join(f"{', '.join(v)} {_plural(k, b)}" for (k, b), v in lacking.items())
    rules = ", ".join(_rule(k, b, verbs) for (k, b), verbs in lacking.items())
    where = f"namespace {subject.cluster.namespace}"
    yield failed("rights", f"not allowed in {where}: {named}", f"add to a Role: rules: [{rules}]")


def _plural(kind: Resource, below: str) -> str:
    return f"{kind.plural}/{below}" if below else kind.plural


def _rule(kind: Resource, below: str, verbs: list[str]) -> str:
    group = kind.group or '""'
    plural, allowed = _plural(kind, below), ", ".join(verbs)
    return f"{{apiGroups: [{group}], resources: [{plural}], verbs: [{allowed}]}}"
