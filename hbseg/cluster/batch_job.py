"""A step without torchrun as a batch Job of Kubernetes."""

from __future__ import annotations

from typing import Any, Final

from hbseg.cluster.pod import PodShape, complete_step
from hbseg.cluster.source import plain
from hbseg.placement import Placement
from hbseg.step_command import StepCall
from hbseg.steps import Step

Manifest = dict[str, Any]

SPARE_PODS: Final = 6
"""Pods that may end without the launcher's word, beyond its attempts: it decides, not the Job."""


def batch_job(call: StepCall, placement: Placement) -> Manifest:
    """Return the job; inference has one index for each node."""
    job = plain(f"{call.step}.yaml")
    nodes = PodShape.of(call.step, placement).nodes
    spec = job["spec"]
    spec["backoffLimit"] = nodes * placement.retries + SPARE_PODS
    spec["ttlSecondsAfterFinished"] = placement.cluster.keep_finished
    if call.step == Step.INFER:
        spec |= {"completions": nodes, "parallelism": nodes}
    complete_step(spec["template"], call, placement)
    return job
