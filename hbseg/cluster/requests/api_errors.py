"""The refusals of a Kubernetes API, as errors of `hbseg.errors`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hbseg.cluster.requests.resources import Resource
from hbseg.errors import (
    ConflictError,
    DeniedError,
    HbsegError,
    InvalidInput,
    NotFoundError,
    UnreachableError,
)

DOCTOR = "run: hbseg doctor"


@dataclass(frozen=True)
class Call:
    """A request to the API, as an error message names it."""

    verb: str
    """A verb of RBAC: `get`, `list`, `create` ..."""
    resource: Resource | None
    """None for a path without objects, e.g. `/version`."""
    namespace: str
    name: str = ""

    @property
    def what(self) -> str:
        """The object, e.g. `pods main-stage1-worker-0 in namespace team`."""
        if self.resource is None:
            return "the cluster"
        inside = f" in namespace {self.namespace}" if self.resource.namespaced else ""
        return f"{self.resource.named}{f' {self.name}' if self.name else ''}{inside}"


class WatchExpired(HbsegError):
    """The version that a watch or listing started from is no longer kept (410): list again."""


class MissingKind(UnreachableError):
    """The cluster has no such kind of object; a retry does not help."""


def api_error(call: Call, status: int, body: bytes) -> HbsegError:
    """Return the error for a response of status 300 or above."""
    told = _status(body)
    message = one_line(str(told.get("message") or body[:300].decode(errors="replace")))
    match status:
        case 401:
            return DeniedError(
                "the cluster does not accept the credentials: token expired or not accepted",
                "log in again, or choose another --context",
            )
        case 403:
            return _forbidden(call, message)
        case 404:
            return _not_found(call, told, message)
        case 409:
            return ConflictError(f"{call.what}: {message}")
        case 410:
            return WatchExpired(message)
        case 400 | 413 | 422:
            return InvalidInput(f"the cluster refuses {call.what}: {_webhook_words(message)}")
    if "failed calling webhook" in message:
        return UnreachableError(
            f"the cluster cannot check {call.what}: {_webhook_cause(message)}", DOCTOR
        )
    return UnreachableError(
        f"the cluster failed to {call.verb} {call.what} (status {status}): {message}", DOCTOR
    )


def _forbidden(call: Call, message: str) -> HbsegError:
    if "admission webhook" in message or "is forbidden: violates PodSecurity" in message:
        return InvalidInput(f"the cluster refuses {call.what}: {_webhook_words(message)}")
    if "exceeded quota" in message:
        return InvalidInput(f"the cluster refuses {call.what}: {message}", DOCTOR)
    if "is being terminated" in message:
        return NotFoundError(f"namespace {call.namespace} is being deleted", "choose another: -n")
    if (
        "is forbidden: " in message and " cannot " not in message
    ):  # by admission, not for missing rights
        return InvalidInput(f"the cluster refuses {call.what}: {message}")
    return DeniedError(f"not allowed to {call.verb} {call.what}", DOCTOR)


def _not_found(call: Call, told: Mapping[str, Any], message: str) -> HbsegError:
    details = told.get("details") or {}
    if details.get("kind") == "namespaces" or re.search(r'namespaces "[^"]*" not found', message):
        return NotFoundError(
            f"no namespace {call.namespace} in the cluster", "give another: -n NAMESPACE"
        )
    known = bool(details.get("name")) or bool(call.name and '" not found' in message)
    if call.resource is not None and not known:
        if call.resource.brought_by:
            return MissingKind(f"{call.resource.brought_by} is not installed", DOCTOR)
        return MissingKind(f"the cluster does not know {call.resource.named}", DOCTOR)
    return NotFoundError(f"no {call.what}")


def _webhook_words(message: str) -> str:
    """Return a webhook's own message, without the API server's words around it."""
    match = re.search(r'admission webhook "([^"]*)" denied the request: (.*)', message)
    return f"{match[2]} (says {match[1]})" if match else message


def _webhook_cause(message: str) -> str:
    match = re.search(r'failed calling webhook "([^"]*)": (.*)', message)
    if match is None:
        return message
    operator = "training-operator" in match[1]
    who = "the training operator's webhook" if operator else f"webhook {match[1]}"
    return f"{who} does not answer ({match[2].rpartition(': ')[2][:200]})"


def _status(body: bytes) -> dict[str, Any]:
    """Return the `Status` object of a response body; empty if it is no JSON object."""
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def one_line(text: str) -> str:
    """Return the text on one line: each run of white space becomes one blank."""
    return " ".join(text.split())
