"""A training stage as a PyTorchJob of the Kubeflow training operator, v1."""

from __future__ import annotations

import math
from typing import Any

from hbseg.cluster.pod import complete_step
from hbseg.cluster.source import plain
from hbseg.placement import Placement
from hbseg.step_command import StepCall

Manifest = dict[str, Any]


def pytorch_job(call: StepCall, placement: Placement) -> Manifest:
    """Return the job: one master on one node, or as many elastic workers as there are nodes."""
    several = placement.nodes > 1
    job = plain("train-elastic.yaml" if several else "train.yaml")
    spec = job["spec"]
    spec["nprocPerNode"] = str(placement.processes_per_node)
    replicas = spec["pytorchReplicaSpecs"]["Worker" if several else "Master"]
    replicas["replicas"] = placement.nodes
    if several:
        nodes = {"minReplicas": placement.nodes, "maxReplicas": placement.nodes}
        spec["elasticPolicy"] |= nodes
        _set_join_timeout(spec["elasticPolicy"]["rdzvConf"], placement.pending_timeout)
    complete_step(replicas["template"], call, placement)
    return job


def _set_join_timeout(settings: list[Manifest], pending_timeout: float) -> None:
    """Let nodes that have started wait for the others as long as these may be pending."""
    for setting in settings:
        if setting["key"] == "join_timeout":
            setting["value"] = str(max(int(setting["value"]), math.ceil(pending_timeout)))
