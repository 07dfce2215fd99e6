"""A run: a name claimed once in storage, and the places of all that belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from hbseg.documents import Document
from hbseg.errors import BucketMissing, ConflictError, InvalidInput, NotFoundError
from hbseg.runs.run_name import checked_run_name, is_run_name
from hbseg.runs.states import TaskState
from hbseg.storage.documents import update
from hbseg.storage.store import Store
from hbseg.system.clock import now
from hbseg.system.user import current_user

CLAIM = "run.json"
LOCAL = "local"
"""In the place of a namespace: this machine."""

AT_WORK = (TaskState.PENDING, TaskState.RUNNING)
"""States of a step, in a summary, in which a backend may be at work on it."""
SUMMARY_TRIES = 5
"""Tries to write a summary: it is for listings alone, so no step waits for it for long."""
BEGIN_TRIES = 20
"""Tries to note a start, before others' writes are taken for a fault."""


class RunClaim(Document):
    """`run.json`: who holds the name, and a summary for listings."""

    kind: Literal["Run"] = "Run"
    name: str
    owner: str
    """User who made the first submit."""
    namespace: str = LOCAL
    """Namespace of the cluster, or `local`."""
    data: str
    """URL of the datasets that the run reads."""
    created: str
    """ISO 8601, UTC."""
    steps: dict[str, str] = {}
    """Folder of each task: its last known `TaskState`, for listings; other versions may have other
    words."""
    dice: float | None = None
    """Validation Dice of the latest finished stage."""


class Run:
    """The folder of a run in storage."""

    def __init__(self, runs: Store, name: str) -> None:
        self.name = checked_run_name(name)
        self.folder = runs.folder(self.name)

    def claim(self, *, data: str, namespace: str = LOCAL, owner: str | None = None) -> RunClaim:
        """Take the name, or return the claim that this owner already holds.

        The owner may move a run to another place, `namespace`, e.g. from a laptop to a cluster, as
        long as no step of it is known to be at work.

        Raises:
            ConflictError: somebody else holds it, it reads another dataset folder, or it is at
                work in another place.
            VersionError: a newer hbseg wrote the claim.
        """
        wanted = RunClaim(
            name=self.name,
            owner=owner or current_user(),
            namespace=namespace,
            data=data,
            created=now(),
        )
        if self.folder.put_if_absent(CLAIM, wanted.to_json()):
            return wanted

        def moved(held: RunClaim) -> RunClaim:
            _check_claim(held, wanted)
            return held.model_copy(update={"namespace": namespace})

        with self._named():
            return update(self.folder, CLAIM, RunClaim, moved)

    def read(self) -> RunClaim:
        """Return the claim.

        Raises:
            NotFoundError: there is no such run.
            VersionError: a newer hbseg wrote the claim.
        """
        with self._named():
            content = self.folder.get(CLAIM)
        return RunClaim.from_text(content, source=f"{self.folder.url}/{CLAIM}")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the run where its claim is not there."""
        try:
            yield
        except BucketMissing:
            raise
        except NotFoundError:
            raise NotFoundError(
                f"no run {self.name} in {self.folder.url.removesuffix(self.name).rstrip('/')}",
                "see: hbseg list",
            ) from None

    def begin(self, prefix: str, *, namespace: str) -> str | None:
        """Note that a step is about to start, and return what the summary said of it before.

        From here on nobody else can take the run to another place, whoever comes first. The summary
        of a step that is at work already stays.

        Raises:
            NotFoundError: there is no such run.
            ConflictError: the run has moved to another place, or others changed the claim at each
                of 20 tries.
        """
        before: str | None = None

        def begun(held: RunClaim) -> RunClaim:
            nonlocal before
            before = held.steps.get(prefix)
            if held.namespace != namespace:
                raise ConflictError(
                    f"run {self.name} has moved from {namespace} to {held.namespace}",
                    f"see: hbseg status {self.name} {place_flags(held.namespace, here=namespace)}",
                )
            if before in AT_WORK:
                return held
            return held.model_copy(update={"steps": {**held.steps, prefix: TaskState.PENDING}})

        with self._named():
            update(self.folder, CLAIM, RunClaim, begun, tries=BEGIN_TRIES)
        return before

    def summarise(self, *, steps: dict[str, str], dice: float | None = None) -> None:
        """Put the state of steps into the claim; others' summaries of other steps are kept.

        Raises:
            NotFoundError: there is no such run.
            ConflictError: others changed the claim at each of 5 tries.
        """

        def summarised(old: RunClaim) -> RunClaim:
            new = {"steps": {**old.steps, **steps}, "dice": old.dice if dice is None else dice}
            return old.model_copy(update=new)

        update(self.folder, CLAIM, RunClaim, summarised, tries=SUMMARY_TRIES)


def _check_claim(held: RunClaim, wanted: RunClaim) -> None:
    """Refuse a claim that does not go with the one that is held. Raises ConflictError."""
    if held.owner != wanted.owner:
        raise ConflictError(
            f"run {held.name} belongs to {held.owner} in {held.namespace}",
            "choose another name with --run",
        )
    if held.data != wanted.data:
        raise ConflictError(
            f"run {held.name} reads {held.data}, not {wanted.data}",
            "choose another name with --run",
        )
    at_work = [step for step, state in held.steps.items() if state in AT_WORK]
    if held.namespace != wanted.namespace and at_work:
        where = place_flags(held.namespace, here=wanted.namespace)
        raise ConflictError(
            f"run {held.name} is at work in {held.namespace} ({', '.join(at_work)}), not in "
            f"{wanted.namespace}",
            f"wait, or stop it there: hbseg cancel {held.name} {where}",
        )


def place_flags(namespace: str, *, here: str) -> str:
    """Return the flags that lead to a namespace, or to this machine, from the place `here`."""
    if namespace == LOCAL:
        return "--backend local"
    return f"--backend kubernetes -n {namespace}" if here == LOCAL else f"-n {namespace}"


@dataclass(frozen=True)
class UnreadRun:
    """A run whose claim this version cannot read."""

    name: str
    problem: str
    """Why not, and what to do: one line."""


def list_runs(runs: Store) -> Iterator[RunClaim | UnreadRun]:
    """Yield the claims of all runs by name; a folder without a claim is no run."""
    names = [name for name in runs.list_folders() if is_run_name(name)]
    for name, content in zip(names, runs.get_many(map(_claim_key, names)), strict=True):
        if content is None:
            continue
        try:
            yield RunClaim.from_text(content, source=f"{runs.url}/{_claim_key(name)}")
        except InvalidInput as error:
            yield UnreadRun(name, str(error))


def _claim_key(name: str) -> str:
    return f"{name}/{CLAIM}"
