"""The steps, and a task: one step of one run with its spec, its place and its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from hbseg.config.specs import Spec
from hbseg.documents import canonical_digest
from hbseg.storage.markers import Marker, read_marker
from hbseg.storage.store import Store

SHORT = 12
"""Hexadecimal digits of a digest that make a name."""


class Step(StrEnum):
    """The names of the steps everywhere: labels, flags, prefixes in storage."""

    PREPARE = "prepare"
    STAGE1 = "stage1"
    STAGE2 = "stage2"
    COMPILE = "compile"
    INFER = "infer"
    EFFICIENCY = "efficiency"
    REPORT = "report"


TRAINING = (Step.STAGE1, Step.STAGE2)
"""Steps that torchrun starts, one process per GPU."""


def task_name(prefix: str) -> str:
    """Return the name of the task that makes a run's folder `prefix`, for files and labels."""
    return prefix.replace("/", "-")


def prefix_of(name: str) -> str:
    """Return the folder in the run of the task called `name`."""
    return name.replace("-", "/", 1)


@dataclass(frozen=True)
class Input:
    """What a task reads: a named folder with a marker."""

    name: str
    """Role of the input in the task, e.g. `dataset` or `checkpoint`."""
    folder: Store

    def digest(self) -> str:
        """Return the digest of the input's marker. Raises NotFoundError where it is not done."""
        return read_marker(self.folder).digest


@dataclass(frozen=True)
class Task:
    """One step of one run.

    A task is done when the marker in its folder has the spec's digest and the digests of the
    inputs as they are now. So a task whose input changed is stale, and so is all that follows.
    """

    step: Step
    spec: Spec
    folder: Store
    """Where the outputs go."""
    prefix: str
    """The folder's path in the run, e.g. `stage1` or `engine/0a1b2c3d4e5f`."""
    inputs: tuple[Input, ...] = field(default=())
    extra: tuple[str, ...] = ()
    """Arguments of the step's own that do not change its result."""
    repeats: bool = False
    """Whether it is started each time it is asked for, since its marker does not know all that it
    reads; a step that repeats finds out for itself what is left to do."""

    @property
    def name(self) -> str:
        """A name for files and processes: the prefix with `-` for `/`."""
        return task_name(self.prefix)

    def input_digests(self) -> dict[str, str]:
        """Return each input's digest as it is now. Raises NotFoundError where one is missing."""
        return {item.name: item.digest() for item in self.inputs}

    def identity(self) -> str:
        """Return the digest of all that decides the result: spec and inputs as they are now.

        What a step leaves behind on the way (checkpoints, parts) carries it, so that a later
        attempt goes on only with what belongs to the same result.
        """
        return identity(self.spec.digest(), self.input_digests())

    def is_done(self) -> bool:
        """Return whether the outputs are there, whole and up to date."""
        from hbseg.errors import NotFoundError

        try:
            marker = read_marker(self.folder)
            return marker.spec_hash == self.spec.digest() and (
                marker.inputs == self.input_digests()
            )
        except NotFoundError:
            return False


def identity(spec_hash: str, input_digests: dict[str, str]) -> str:
    """Return the digest of a spec's hash and its inputs' digests."""
    return canonical_digest({"spec": spec_hash, "inputs": input_digests})


def marker_of(task: Task) -> Marker:
    """Return the marker of a done task."""
    return read_marker(task.folder)
