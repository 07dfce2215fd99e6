"""An informer: a local copy of some kinds of objects, kept up to date by watches, not by polling.

One thread for each kind lists, then watches. When the watch's version has expired (410), it lists
again. When the connection breaks, e.g. as the API server restarts, it watches again from the last
version that it saw.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from hbseg.cluster.requests.api_errors import MissingKind, WatchExpired
from hbseg.cluster.requests.client import Cluster, WatchEvent
from hbseg.cluster.requests.resources import Resource
from hbseg.cluster.requests.transport import FIRST_PAUSE, MAX_PAUSE, Answer
from hbseg.errors import DeniedError, HbsegError, UnreachableError
from hbseg.system.backoff import Backoff

OUTAGE_SECONDS = 300.0
"""Longest outage of the API server, in seconds, after which a watch still continues."""


@dataclass(frozen=True)
class Watched:
    """A kind of object, and the selectors that choose among its objects."""

    resource: Resource
    labels: str = ""
    fields: str = ""
    optional: bool = False
    """Whether the kind counts as empty where we may not read it or the cluster lacks it; else that
    is an error."""


class Informer:
    """A local copy of the objects of some kinds; use it as a context.

    Entering it returns when each kind was listed once. `on_change` is called after each change, in
    a thread of the informer. `outage` is the longest outage of the API server in seconds.

    Raises:
        HbsegError: (by `wait` and `objects`) a kind can no longer be watched; a bug in a watch's
            thread is raised there as well.
    """

    def __init__(
        self,
        cluster: Cluster,
        watched: Iterable[Watched],
        *,
        on_change: Callable[[], None] = lambda: None,
        outage: float = OUTAGE_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._watched = list(watched)
        self._on_change = on_change
        self._outage = outage
        self._objects: dict[str, dict[str, dict[str, Any]]] = {}
        self._changed = threading.Condition()
        self._news = False
        self._error: Exception | None = None
        self._stopped = threading.Event()
        self._answers: dict[str, Answer] = {}
        self._answered: dict[str, float] = {}

    def __enter__(self) -> Self:
        for watched in self._watched:
            name = f"watch-{watched.resource.plural}"
            threading.Thread(target=self._watch, args=(watched,), name=name, daemon=True).start()
        with self._changed:
            self._changed.wait_for(self._is_complete)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for answer in list(self._answers.values()):
            answer.close()

    def _is_complete(self) -> bool:
        return self._error is not None or len(self._objects) == len(self._watched)

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether an object changed since the last call; wait at most `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._news or self._error is not None, timeout)
            self._check()
            news, self._news = self._news, False
            return news

    def objects(self, resource: Resource) -> list[dict[str, Any]]:
        """Return the objects of a kind, as the last change left them."""
        with self._changed:
            self._check()
            return list(self._objects.get(resource.plural, {}).values())

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _watch(self, watched: Watched) -> None:
        try:
            self._follow(watched)
        except Exception as bug:  # without it, `wait` would never return
            self._fail(bug)

    def _follow(self, watched: Watched) -> None:
        version, backoff = "", Backoff(FIRST_PAUSE, MAX_PAUSE)
        self._note_answer(watched.resource)
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                if not version:
                    version = self._list(watched)
                for change in self._open(watched, version):
                    version = self._apply(watched.resource, change)
            except WatchExpired:
                version = ""
            except (DeniedError, MissingKind) as error:
                return self._leave_empty(watched) if watched.optional else self._fail(error)
            except UnreachableError as error:
                if time.monotonic() - self._answered[watched.resource.plural] > self._outage:
                    return self._fail(error)
            except HbsegError as error:
                return self._fail(error)
            if time.monotonic() - began > 1:
                backoff.reset()
            backoff.wait(self._stopped)
        return None

    def _note_answer(self, resource: Resource) -> None:
        """Note that the server answers: an outage is measured from here."""
        self._answered[resource.plural] = time.monotonic()

    def _list(self, watched: Watched) -> str:
        items, version = self._cluster.list_versioned(
            watched.resource, labels=watched.labels, fields=watched.fields
        )
        self._note_answer(watched.resource)
        with self._changed:
            self._objects[watched.resource.plural] = {_key(item): item for item in items}
        self._notify()
        return version

    def _open(self, watched: Watched, version: str) -> Iterable[WatchEvent]:
        def keep(answer: Answer) -> None:
            self._note_answer(watched.resource)
            self._answers[watched.resource.plural] = answer
            if self._stopped.is_set():
                answer.close()

        return self._cluster.watch(
            watched.resource, version, labels=watched.labels, fields=watched.fields, opened=keep
        )

    def _apply(self, resource: Resource, change: WatchEvent) -> str:
        self._note_answer(resource)
        version = str(change.item["metadata"].get("resourceVersion", ""))
        if change.kind == "BOOKMARK":
            return version
        with self._changed:
            kept = self._objects[resource.plural]
            if change.kind == "DELETED":
                kept.pop(_key(change.item), None)
            else:
                kept[_key(change.item)] = change.item
        self._notify()
        return version

    def _leave_empty(self, watched: Watched) -> None:
        with self._changed:
            self._objects[watched.resource.plural] = {}
        self._notify()

    def _fail(self, error: Exception) -> None:
        if self._stopped.is_set():
            return
        with self._changed:
            self._error = error
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._news = True
            self._changed.notify_all()
        self._on_change()


def _key(item: dict[str, Any]) -> str:
    metadata = item["metadata"]
    return str(metadata.get("uid") or metadata["name"])
