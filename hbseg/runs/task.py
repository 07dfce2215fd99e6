"""A task: one step of one run with its spec, its place and its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field

from hbseg.config.specs import Spec
from hbseg.documents import canonical_digest
from hbseg.runs.steps import Step, TaskName
from hbseg.storage.markers import read_marker
from hbseg.storage.store import Store


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
    raw: str | None = None
    """URL of the raw set, for the step prepare."""
    skip_bad: bool = False
    """Whether the step prepare leaves pictures with errors out."""
    engine: str | None = None
    """Kind of the engine that the step makes or runs, if any."""

    @property
    def name(self) -> str:
        """A name for files, processes and labels: the prefix with `-` for `/`."""
        return str(TaskName(self.prefix))

    def input_digests(self) -> dict[str, str]:
        """Return each input's digest as it is now. Raises NotFoundError where one is missing."""
        return {item.name: item.digest() for item in self.inputs}

    def identity(self) -> str:
        """Return the digest of all that decides the result: spec and inputs as they are now.

        What a step leaves behind on the way (checkpoints, parts) carries it, so that a later
        attempt resumes only from what belongs to the same result.
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
