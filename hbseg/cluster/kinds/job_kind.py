"""What a kind of job has to answer, so that nothing else asks which kind a job is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from hbseg.cluster.objects import Manifest, Object
from hbseg.cluster.requests.resources import Resource
from hbseg.config.placement import Placement
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step

if TYPE_CHECKING:
    from hbseg.cluster.pods.states import Failure


class JobKind(ABC):
    """A kind of job: how a step becomes one, and what its object and its controller tell."""

    resource: ClassVar[Resource]
    noun: ClassVar[str]
    """What messages call it, after `a`."""
    controller: ClassVar[str]
    """Who makes its pods, as a subject: `the training operator`."""
    longest_name: ClassVar[int]
    """Characters of its name, so that the names of all that is made from it fit."""
    is_gang: ClassVar[bool]
    """Whether the step runs only when all pods do, and not with the first."""
    replica_labels: ClassVar[tuple[str, ...]]
    """Labels of a pod that together say whose place it has; its replacement has the same."""
    succeeded: ClassVar[str]
    """Type of the condition that says that it ended well."""
    failed: ClassVar[str] = "Failed"
    """Type of the condition that says that it ended otherwise."""

    @abstractmethod
    def may_run(self, step: Step) -> bool:
        """Return whether a step may run as such a job."""

    @abstractmethod
    def render(self, call: StepCall, placement: Placement) -> Manifest:
        """Return the job of a step, without its metadata.

        Raises:
            SpecError: the profile sets an environment variable that is the launcher's.
        """

    @abstractmethod
    def problems(self, job: Manifest) -> Iterator[str]:
        """Yield what is wrong with a manifest beyond its metadata, a sentence each."""

    @abstractmethod
    def pod_templates(self, job: Object) -> list[Object]:
        """Return the templates that pods are made from."""

    @abstractmethod
    def num_pods(self, job: Object) -> int:
        """Return how many pods the job has at a time."""

    def num_ranks(self, job: Object) -> int:
        """Return how many ranks write logs: one a pod, where pods start no processes."""
        return self.num_pods(job)

    def is_suspended(self, job: Object) -> bool:
        """Return whether somebody, mostly a queue, holds the job back."""
        return bool((job.get("spec") or {}).get("suspend"))

    @abstractmethod
    def is_pod_name(self, words: Sequence[str]) -> bool:
        """Return whether a pod's name has these words, between dashes, behind the job's."""

    def failure_in(self, event: Object) -> Failure | None:
        """Return the failure that an event of the job tells; none where it tells none.

        Only a controller that deletes failed pods has to tell how they ended.
        """
        del event
        return None
