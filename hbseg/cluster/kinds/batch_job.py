"""A step without torchrun as a batch Job of Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hbseg.cluster.base_manifest import load_manifest
from hbseg.cluster.kinds.job_kind import JobKind
from hbseg.cluster.objects import Manifest, Object
from hbseg.cluster.pods.rules import host_name_problems, pod_problems
from hbseg.cluster.pods.template import PodShape, complete_step
from hbseg.cluster.requests.resources import JOB
from hbseg.config.placement import Placement
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step

SPARE_PODS: Final = 6
"""Pods that may end without the launcher's word, beyond its attempts: it decides, not the Job."""


INDEX_FIELD: Final = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
"""Where a pod of an indexed job reads its number."""


class BatchJob(JobKind):
    """A batch Job; inference has one index for each node."""

    resource = JOB
    noun = "batch Job"
    controller = "the cluster's job controller"
    longest_name = 57
    """Its pods add `-` and five random characters."""
    is_gang = False
    replica_labels = ("batch.kubernetes.io/job-completion-index",)
    succeeded = "Complete"

    def may_run(self, step: Step) -> bool:
        """Return whether torchrun does not start the step."""
        return not step.row.torchrun

    def render(self, call: StepCall, placement: Placement) -> Manifest:
        """Return the job: with an index for each node where nodes share the step out."""
        job = load_manifest("step.yaml")
        nodes = PodShape.of(call, placement).nodes
        spec = job["spec"]
        spec["backoffLimit"] = nodes * placement.retries + SPARE_PODS
        spec["ttlSecondsAfterFinished"] = placement.cluster.keep_finished
        complete_step(spec["template"], call, placement)
        if call.step.row.shared:
            _share_out(spec, nodes)
        return job

    def problems(self, job: Manifest) -> Iterator[str]:
        """Yield what the job controller, or a pod, would break on."""
        spec = job["spec"]
        if spec.get("completionMode") == "Indexed":
            name = job["metadata"].get("name") or ""
            yield from host_name_problems(f"{name}-{spec.get('completions', 1) - 1}")
        pod = spec["template"]["spec"]
        if pod.get("restartPolicy") != "Never":
            yield f"restartPolicy is {pod.get('restartPolicy')!r}, podFailurePolicy needs Never"
        for rule in (spec.get("podFailurePolicy") or {}).get("rules", ()):
            of = rule.get("onExitCodes", {}).get("containerName")
            if of is not None and of not in [item["name"] for item in pod["containers"]]:
                yield f"podFailurePolicy looks at the container {of}, which the pod does not have"
        yield from pod_problems(pod, container="step")

    def pod_templates(self, job: Object) -> list[Object]:
        """Return the one template."""
        return [(job.get("spec") or {}).get("template") or {}]

    def num_pods(self, job: Object) -> int:
        """Return the pods that may run together."""
        spec = job.get("spec") or {}
        return min(int(spec.get("parallelism") or 1), int(spec.get("completions") or 1))

    def is_pod_name(self, words: Sequence[str]) -> bool:
        """Return whether it is, perhaps, an index, then five random characters."""
        if len(words) == 2 and words[0].isdigit():
            words = words[1:]
        return len(words) == 1 and len(words[0]) == 5


def _share_out(spec: Manifest, nodes: int) -> None:
    """Make a job indexed: each pod makes the share of its index."""
    spec |= {"completionMode": "Indexed", "completions": nodes, "parallelism": nodes}
    container = spec["template"]["spec"]["containers"][0]
    number = next(variable for variable in container["env"] if variable["name"] == "HBSEG_NODE")
    del number["value"]
    number["valueFrom"] = {"fieldRef": {"fieldPath": INDEX_FIELD}}
