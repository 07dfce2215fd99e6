"""Whether pods that are given a proxy go past it where they must."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from hbseg.config.kubernetes_types import given
from hbseg.config.profile import ClusterProfile
from hbseg.doctor.check import Check, ok, warning
from hbseg.doctor.subject import Subject

METADATA: Final = ("169.254.170.23", "169.254.170.2", "169.254.169.254")
"""Where AWS gives out the keys of workload identity: EKS Pod Identity, ECS, EC2."""
_INSIDE: Final = (".svc", ".local", ".internal")
"""Ends of names that only a cluster or a company resolves."""


def proxy(subject: Subject) -> Iterator[Check]:
    """Whether `NO_PROXY` names what a proxy does not reach; nothing where pods get no proxy."""
    found = subject.steps_by(_proxied)
    for proxied, steps in found.items():
        if proxied:
            through = f"{', '.join(proxied)} through the proxy of their environment"
            text = f"the pods of {steps} would ask {through}"
            yield warning("proxy", text, f"add to its NO_PROXY: {','.join(proxied)}")
    if () in found and not any(found):
        yield ok("proxy", "NO_PROXY names all that pods must reach without the proxy")


def _proxied(profile: ClusterProfile) -> tuple[str, ...] | None:
    """Return what pods would wrongly ask through their proxy; none where they get no proxy."""
    variables = _variables(given(profile.environment))
    if not any(variables.get(f"{kind}_proxy") for kind in ("http", "https", "all")):
        return None
    excluded = variables.get("no_proxy", "")
    return tuple(host for host in _direct(profile) if not _is_excluded(host, excluded))


def pods_endpoint(profile: ClusterProfile) -> str | None:
    """Return the URL of S3 that pods are told, if any; `environment` comes before the profile."""
    return profile.environment.get("AWS_ENDPOINT_URL") or profile.s3_endpoint


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables by their names in small letters; a name that has them comes first."""
    by_case = sorted(environment.items(), key=lambda item: item[0].islower())
    return {name.lower(): value for name, value in by_case}


def _direct(profile: ClusterProfile) -> Iterator[str]:
    """Yield what pods must reach without a proxy: `HOST` or `HOST:PORT`."""
    if profile.credentials_secret is None:
        yield from METADATA
    endpoint = pods_endpoint(profile) or ""
    place = endpoint.partition("://")[2].partition("/")[0]
    host = _host(place)
    if host and _is_inside(host):
        yield place


def _host(place: str) -> str:
    try:
        return urlsplit(f"//{place}").hostname or ""
    except ValueError:  # brackets around no address
        return ""


def _is_inside(host: str) -> bool:
    """Return whether a host is one of the cluster's or of a private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(_INSIDE)


def _is_excluded(place: str, no_proxy: str) -> bool:
    """Return whether boto3 goes there without the proxy; it knows no ranges of addresses."""
    names = [f".{name.lower()}" for name in (place, _host(place))]
    ends = [f".{entry.strip().lstrip('.').lower()}" for entry in no_proxy.split(",")]
    return no_proxy == "*" or any(
        name.endswith(end) for name in names for end in ends if end != "."
    )
