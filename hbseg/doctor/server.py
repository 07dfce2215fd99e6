"""Checks of the API server and of the namespace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from hbseg import __version__
from hbseg.cluster.objects import Object
from hbseg.cluster.requests.resources import CONFIG_MAP, NAMESPACE
from hbseg.cluster.shared_settings import NAME, SAME_VERSION, chart_version, parsed_settings
from hbseg.doctor.check import Check, failed, guarded, ok, unknown, warning
from hbseg.doctor.subject import Subject
from hbseg.errors import NotFoundError

LEAST: Final = (1, 29)
"""Batch Jobs need podReplacementPolicy and podFailurePolicy; older servers drop the first."""
FIXED: Final = (1, 31)
"""From here on podFailurePolicy cannot be switched off any more."""
MAX_SKEW: Final = timedelta(seconds=30)
_STANDARD: Final = "pod-security.kubernetes.io"


def api(subject: Subject) -> Iterator[Check]:
    """Whether the API server answers, and whether its version is one that our jobs need."""
    told = str(subject.cluster.version().get("gitVersion", "?"))
    found = re.match(r"v(\d+)\.(\d+)", told)
    at = f"{subject.cluster.server} is Kubernetes {told}"
    if found is None:
        yield unknown("api", f"{at}, which says nothing of its age")
        return
    version = (int(found[1]), int(found[2]))
    if version < LEAST:
        yield failed("api", f"{at}, expected 1.{LEAST[1]} or newer", "upgrade the cluster")
    elif version < FIXED:
        text = f"{at}: podFailurePolicy may be switched off there, from 1.{FIXED[1]} on it may not"
        yield warning("api", text)
    else:
        yield ok("api", at)


def clock(subject: Subject) -> Iterator[Check]:
    """Whether the clocks here and there agree; tokens and signatures depend on it."""
    skew = subject.cluster.now() - datetime.now(UTC)
    seconds = abs(skew.total_seconds())
    if abs(skew) > MAX_SKEW:
        ahead = "ahead of" if skew > timedelta(0) else "behind"
        text = f"the API server's clock is {seconds:.0f} s {ahead} this machine's"
        yield warning("clock", text, "set both by NTP; S3 refuses requests from 15 minutes on")
    else:
        yield ok("clock", "that of the API server agrees with this machine's")


def version(subject: Subject) -> Iterator[Check]:
    """Whether the chart of the namespace belongs to this hbseg."""
    profile = subject.cluster.find(CONFIG_MAP, NAME)
    if profile is None:
        yield ok("version", f"hbseg {__version__}; the namespace has no chart of it")
        return
    there = chart_version(profile)
    if there is None:
        yield unknown("version", f"{NAME} does not say its version, here is {__version__}")
    elif there != __version__:
        text = f"the chart is of hbseg {there}, here is {__version__}"
        yield warning("version", text, SAME_VERSION)
    else:
        yield ok("version", f"hbseg {__version__}, as the chart")
    yield from guarded("profile", _profile, profile, subject.cluster.namespace)


def _profile(config_map: Object, namespace: str) -> Iterator[Check]:
    parsed_settings(config_map, namespace)
    yield ok("profile", f"{NAME} is valid")


def namespace(subject: Subject) -> Iterator[Check]:
    """Whether the namespace is there, and which pods it lets in."""
    name = subject.cluster.namespace
    try:
        found = subject.cluster.get(NAMESPACE, name)
    except NotFoundError:
        fix = f"give another: -n NAMESPACE, or: kubectl create namespace {name}"
        yield failed("namespace", f"no namespace {name} in the cluster", fix)
        return
    if (found.get("status") or {}).get("phase") == "Terminating":
        yield failed("namespace", f"{name} is being deleted", "give another: -n NAMESPACE")
        return
    labels = (found.get("metadata") or {}).get("labels") or {}
    enforced = labels.get(f"{_STANDARD}/enforce")
    warned = labels.get(f"{_STANDARD}/warn")
    security = f"it enforces {enforced}" if enforced else "it enforces no pod security standard"
    if warned:
        security += f" and warns of {warned}"
    yield ok("namespace", f"{name}: {security}; our pods pass restricted")
