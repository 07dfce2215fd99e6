"""A client of one cluster: dicts in, dicts out, errors of `hbseg.errors` only.

Requests go through a urllib3 pool. For a kubeconfig the official package sets it up
(`kubeconfig`), in a pod this package does (`service_account`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from hbseg.cluster.objects import Manifest, Object
from hbseg.cluster.requests.api_errors import Call, WatchExpired, api_error
from hbseg.cluster.requests.resources import ACCESS_REVIEW, POD, Resource
from hbseg.cluster.requests.transport import Answer, Transport
from hbseg.errors import NotFoundError, UnreachableError

WATCH_SECONDS = 50
"""Length of one watch, kept by the server; the next watch starts at the last version."""
LOG_SILENCE_SECONDS = 60.0
"""Longest silence of a followed log; then it is requested again."""
PAGE = 500
"""Objects in one page of a listing."""
FIELD_OWNER = "hbseg"

Objects = list[Manifest]


@dataclass(frozen=True)
class WatchEvent:
    """One change that a watch reports."""

    kind: str
    """`ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`."""
    item: Manifest


class Cluster:
    """One namespace of one cluster."""

    def __init__(self, transport: Transport, namespace: str) -> None:
        self._transport = transport
        self.namespace = namespace

    @classmethod
    def connect(cls, *, namespace: str | None = None, context: str | None = None) -> Cluster:
        """Return the cluster of the kubeconfig, else the one that this pod runs in.

        Nothing is sent yet. Namespace: as given, else that of the context or of the pod, else
        `default`.

        Raises:
            UsageError: the kubeconfig cannot be used, or has no such context.
            DeniedError: the pod's service account cannot be used.
            UnreachableError: there is no kubeconfig, and this is no pod.
        """
        from hbseg.cluster.requests import kubeconfig, service_account

        if kubeconfig.exists():
            transport, found = kubeconfig.connected(context)
        elif service_account.in_pod():
            transport, found = service_account.connected(context)
        else:
            raise UnreachableError(
                f"no cluster: there is no kubeconfig at {kubeconfig.paths()}, and this is no pod",
                "set KUBECONFIG, or use --backend local (HBSEG_BACKEND=local)",
            )
        return cls(transport, namespace or found or "default")

    def with_retry_timeout(self, seconds: float) -> Cluster:
        """Return a view of the cluster whose requests are retried for `seconds`."""
        return Cluster(self._transport.with_retry_timeout(seconds), self.namespace)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._transport.server

    def now(self) -> datetime:
        """Return the time by the server's clock, as its last answer tells it."""
        return self._transport.clock.now()

    def version(self) -> Manifest:
        """Return `gitVersion` and the like of the API server."""
        return self._transport.json(Call("get", None, ""), "GET", "/version")

    def get(self, resource: Resource, name: str) -> Manifest:
        """Return an object. Raises NotFoundError."""
        call = Call("get", resource, self.namespace, name)
        return self._transport.json(call, "GET", resource.path(self.namespace, name))

    def find(self, resource: Resource, name: str) -> Manifest | None:
        """Return an object, or None if it does not exist."""
        try:
            return self.get(resource, name)
        except NotFoundError:
            return None

    def list(self, resource: Resource, *, labels: str = "", fields: str = "") -> Objects:
        """Return all objects that match the selectors; a missing namespace has none."""
        return self.list_versioned(resource, labels=labels, fields=fields)[0]

    def list_versioned(
        self, resource: Resource, *, labels: str = "", fields: str = ""
    ) -> tuple[Objects, str]:
        """Return the objects and the version of the listing, at which a watch can start."""
        call = Call("list", resource, self.namespace)
        path = resource.path(self.namespace)
        found: Objects = []
        query = _selected(labels, fields) | {"limit": str(PAGE)}
        while True:
            try:
                page = self._transport.json(call, "GET", path, query=query)
            except WatchExpired:  # the listing took too long, so its next page has expired
                found.clear()
                query.pop("continue", None)
                continue
            # items of a listing lack their kind
            kind = {"apiVersion": resource.api_version, "kind": resource.kind}
            found += [{**kind, **item} for item in page.get("items") or []]
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return found, str(metadata.get("resourceVersion", ""))
            query["continue"] = metadata["continue"]

    def watch(
        self,
        resource: Resource,
        version: str,
        *,
        labels: str = "",
        fields: str = "",
        opened: Callable[[Answer], None] = lambda answer: None,
    ) -> Iterator[WatchEvent]:
        """Yield the changes since a version, for less than a minute.

        `opened` gets the open response, e.g. to close it from another thread.

        Raises:
            WatchExpired: the version is too old: list again.
            UnreachableError: the connection broke: watch again from the last change's version.
        """
        call = Call("watch", resource, self.namespace)
        query = _selected(labels, fields) | {
            "watch": "1",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            "allowWatchBookmarks": "true",
        }
        answer = self._transport.stream(
            call,
            resource.path(self.namespace),
            query=query,
            read_seconds=WATCH_SECONDS + 15.0,
        )
        opened(answer)
        for line in answer.lines():
            change = _change(line)
            if change.kind == "ERROR":
                raise api_error(
                    call, int(change.item.get("code") or 500), json.dumps(change.item).encode()
                )
            yield change

    def create(self, resource: Resource, item: Object, *, dry_run: bool = False) -> Manifest:
        """Create an object and return the server's version of it; `dry_run` only checks it.

        Raises:
            ConflictError: an object of that name exists.
            InvalidInput: the server or a webhook refuses it.
        """
        name = str(item["metadata"].get("name", ""))
        query = {"fieldManager": FIELD_OWNER} | ({"dryRun": "All"} if dry_run else {})
        return self._transport.json(
            Call("create", resource, self.namespace, name),
            "POST",
            resource.path(self.namespace),
            query=query,
            body=item,
        )

    def patch(self, resource: Resource, name: str, body: Object) -> Manifest:
        """Merge `body` into an object (a JSON merge patch) and return the result.

        Raises:
            NotFoundError: the object does not exist.
            ConflictError: `body` has a `metadata.resourceVersion` that is no longer current.
        """
        return self._transport.json(
            Call("patch", resource, self.namespace, name),
            "PATCH",
            resource.path(self.namespace, name),
            query={"fieldManager": FIELD_OWNER},
            body=body,
            content_type="application/merge-patch+json",
        )

    def delete(
        self,
        resource: Resource,
        name: str,
        *,
        uid: str | None = None,
        propagation: str = "Background",
        grace: int | None = None,
    ) -> bool:
        """Delete an object and return whether it existed.

        With `uid`, an object of that name with another uid is left alone. `grace` is a pod's time
        to stop, in seconds; None takes the pod's own.

        Raises:
            ConflictError: the object of that name has another uid.
        """
        body: Manifest = {"propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        call = Call("delete", resource, self.namespace, name)
        try:
            self._transport.json(call, "DELETE", resource.path(self.namespace, name), body=body)
        except NotFoundError:
            return False
        return True

    def pod_log(
        self,
        pod: str,
        *,
        container: str,
        follow: bool = False,
        previous: bool = False,
        timestamps: bool = True,
        since: str | None = None,
        opened: Callable[[Answer], None] = lambda answer: None,
    ) -> Iterator[bytes]:
        """Yield a container's log lines; with `timestamps` each starts with its time.

        `since` is an RFC 3339 time, to a second.

        Raises:
            NotFoundError: no such pod.
            InvalidInput: the container has not started.
            UnreachableError: the connection broke, or a followed log was silent for a minute.
        """
        flags = {"follow": follow, "previous": previous, "timestamps": timestamps}
        query = {"container": container} | {name: "true" for name, on in flags.items() if on}
        if since is not None:
            query["sinceTime"] = since
        answer = self._transport.stream(
            Call("get", POD, self.namespace, pod),
            f"{POD.path(self.namespace, pod)}/log",
            query=query,
            read_seconds=LOG_SILENCE_SECONDS,
        )
        opened(answer)
        yield from answer.lines()

    def can(self, verb: str, resource: Resource, *, name: str = "", subresource: str = "") -> bool:
        """Return whether our credentials allow that in the namespace."""
        attributes = {
            "verb": verb,
            "group": resource.group,
            "resource": resource.plural,
            "subresource": subresource,
            "name": name,
            "namespace": self.namespace if resource.namespaced else "",
        }
        review = {
            "apiVersion": ACCESS_REVIEW.api_version,
            "kind": ACCESS_REVIEW.kind,
            "metadata": {},
            "spec": {
                "resourceAttributes": {key: value for key, value in attributes.items() if value}
            },
        }
        return bool((self.create(ACCESS_REVIEW, review).get("status") or {}).get("allowed"))


def _selected(labels: str, fields: str) -> dict[str, str]:
    chosen = {"labelSelector": labels, "fieldSelector": fields}
    return {name: selector for name, selector in chosen.items() if selector}


def _change(line: bytes) -> WatchEvent:
    try:
        told = json.loads(line)
        return WatchEvent(str(told["type"]), dict(told["object"]))
    except (ValueError, KeyError, TypeError):
        raise UnreachableError("the cluster cut a watch in the middle of a change") from None
