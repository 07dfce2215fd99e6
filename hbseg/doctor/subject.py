"""What the doctor looks at: a cluster, and what pods would be given there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from hbseg.cluster.kinds import kind_of
from hbseg.cluster.objects import Manifest, Object
from hbseg.cluster.pods.template import step_profile
from hbseg.cluster.rendering.manifests import job_objects
from hbseg.cluster.requests.client import Cluster
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile, PodGroup
from hbseg.config.specs import DatasetBlock, ModelBlock, ReportSpec, TrainSpec
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step

UNNAMED = "s3://hbseg"
"""Where storage is not set, manifests are checked with this."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Subject:
    """What is looked at."""

    cluster: Cluster
    placement: Placement
    """Shape of the training that is meant, and the profile of the pods."""
    runs: str | None = None
    data: str | None = None
    """URLs of the storage, where they are set."""

    @property
    def profile(self) -> ClusterProfile:
        """What pods are given."""
        return self.placement.cluster

    @cached_property
    def step_profiles(self) -> dict[Step, ClusterProfile]:
        """What the pods of each step are given, in the order of the steps."""
        return {step: step_profile(self.profile, step) for step in Step}

    @cached_property
    def runner_profile(self) -> ClusterProfile:
        """What the pod of a chain's runner is given."""
        return self.profile.for_pods(PodGroup.RUNNER)

    @property
    def profiles(self) -> tuple[ClusterProfile, ...]:
        """What all pods are given: those of each step, then the runner's."""
        return (*self.step_profiles.values(), self.runner_profile)

    @property
    def training_profile(self) -> ClusterProfile:
        """What the pods of a training are given."""
        return self.step_profiles[Step.STAGE1]

    def steps_by(self, look: Callable[[ClusterProfile], Value]) -> dict[Value, str]:
        """Return what `look` finds in the profiles of steps, each value with the steps' names.

        Where it is the same for all of them, they are called `steps`.
        """
        found: dict[Value, list[Step]] = {}
        for step, profile in self.step_profiles.items():
            found.setdefault(look(profile), []).append(step)
        if len(found) == 1:
            return dict.fromkeys(found, "steps")
        return {value: ", ".join(steps) for value, steps in found.items()}

    @property
    def folders(self) -> dict[str, str]:
        """The URLs that are set, by their names."""
        named = {"runs": self.runs, "data": self.data}
        return {name: url for name, url in named.items() if url is not None}

    def training(self, run: str) -> Manifest:
        """Return the job of a first stage as it would be submitted."""
        spec = TrainSpec(model=ModelBlock(), dataset=DatasetBlock(version="0" * 16))
        return self._job(run, Step.STAGE1, spec)

    def report(self, run: str) -> Manifest:
        """Return the job of a report as it would be submitted."""
        return self._job(run, Step.REPORT, ReportSpec())

    def _job(self, run: str, step: Step, spec: TrainSpec | ReportSpec) -> Manifest:
        call = StepCall(
            run=run,
            step=step,
            prefix=step,
            spec=spec,
            runs=self.runs or f"{UNNAMED}/runs",
            data=self.data or f"{UNNAMED}/data",
        )
        return job_objects(call, self.placement, namespace=self.cluster.namespace)[-1]


def pod_of(training: Object) -> tuple[Object, int]:
    """Return the pod template of a training's job, and how many pods it makes."""
    kind = kind_of(training)
    (template,) = kind.pod_templates(training)
    return template, kind.num_pods(training)
