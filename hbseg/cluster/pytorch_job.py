"""A training stage as a PyTorchJob of the Kubeflow training operator, v1."""

from __future__ import annotations

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
    complete_step(replicas["template"], call, placement)
    return job
