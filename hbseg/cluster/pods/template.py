"""The pod of a step: its command, environment, resources, volumes and place on the nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hbseg.cluster.names import RUN, TASK, labels, spec_name
from hbseg.cluster.objects import Manifest
from hbseg.cluster.pods import quantity
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from hbseg.errors import SpecError
from hbseg.runs.engines import image_kind, uses_gpu
from hbseg.runs.step_call import StepCall

OWN_VARIABLES = frozenset(("HBSEG_NODE", "HBSEG_NODES", "HBSEG_TERMINATION_LOG", "HOME"))
"""Environment that a profile may not change: the launcher would not find its place."""


@dataclass(frozen=True)
class PodShape:
    """How much of a node a pod takes."""

    processes: int
    gpus: int
    nodes: int
    """Pods of the job, one a node."""
    is_gang: bool
    """Whether the pods can only go on together."""

    @classmethod
    def of(cls, call: StepCall, placement: Placement) -> PodShape:
        """Return the shape of a step's pods; only a training has several processes in one."""
        row = call.step.row
        processes = placement.processes_per_node if row.torchrun else 1
        gpus = placement.cluster.gpus_per_process if uses_gpu(call.step, call.engine) else 0
        nodes = placement.nodes if row.torchrun or row.shared else 1
        return cls(processes, processes * gpus, nodes, is_gang=row.torchrun)


def in_pod(placement: Placement, shape: PodShape) -> Placement:
    """Return the placement as a pod's launcher is told it.

    Without a number of threads a process gets the cores that it asked for, and not, as on a
    machine of one's own, all that there are. The pods of a training fail together; those of other
    steps each for itself, so that their retries add up.
    """
    own = max(1, math.floor(quantity.amount(placement.cluster.cpu_per_process)))
    threads = placement.threads_per_process or own
    retries = placement.retries * (1 if shape.is_gang else shape.nodes)
    return placement.model_copy(
        update={"nodes": shape.nodes, "threads_per_process": threads, "retries": retries}
    )


def complete_step(template: Manifest, call: StepCall, placement: Placement) -> None:
    """Put what the call and the placement say into the pod template of a step.

    Raises:
        SpecError: the profile sets an environment variable that is the launcher's.
    """
    profile, shape = placement.cluster, PodShape.of(call, placement)
    complete_pod(template, profile, labels(call.run, call.step, call.task_name))
    pod = template["spec"]
    container = pod["containers"][0]
    container["image"] = profile.image_of(image_kind(call.step, call.engine))
    container["args"] = _arguments(call, placement, shape)
    set_variables(container, {"HBSEG_NODES": str(shape.nodes)})
    container["resources"] = _resources(placement, shape, rdma=shape.is_gang)
    named = {volume["name"]: volume for volume in pod["volumes"]}
    named["spec"]["configMap"]["name"] = spec_name(call.spec)
    named["scratch"]["emptyDir"]["sizeLimit"] = profile.scratch
    named["shm"]["emptyDir"]["sizeLimit"] = profile.shared_memory
    if profile.service_account is not None:
        pod["serviceAccountName"] = profile.service_account


def complete_pod(template: Manifest, profile: ClusterProfile, named: dict[str, str]) -> None:
    """Put into a pod template what the profile says of every pod, and the labels `named`.

    Raises:
        SpecError: the profile sets an environment variable that is the launcher's.
    """
    template["metadata"] = {"labels": named}
    pod = template["spec"]
    container = pod["containers"][0]
    pod["terminationGracePeriodSeconds"] = profile.termination_grace
    pod["securityContext"] |= dict.fromkeys(
        ("runAsUser", "runAsGroup", "fsGroup"), profile.run_as_user
    )
    container["imagePullPolicy"] = profile.image_pull_policy
    if profile.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in profile.image_pull_secrets]
    _put_on_nodes(pod, profile, named)
    _add_environment(container, profile)
    _add_claims(pod, container, profile)


def _arguments(call: StepCall, placement: Placement, shape: PodShape) -> list[str]:
    own = [
        *("--in-pod", "--job", "/scratch/job"),
        *("--grace", str(placement.cluster.termination_grace)),
        *("--module", call.step.row.module),
        *("--placement", in_pod(placement, shape).for_launcher()),
    ]
    step = call.arguments(spec_file="/etc/hbseg/spec.yaml", work="/scratch/work")
    return [escape_variables(str(argument)) for argument in (*own, "--", *step)]


def escape_variables(text: str) -> str:
    """Return text that a pod gets as it is: Kubernetes puts variables in for `$(NAME)`."""
    return text.replace("$(", "$$(")


def _resources(placement: Placement, shape: PodShape, *, rdma: bool) -> Manifest:
    profile = placement.cluster
    per_process = [profile.memory_per_process] * shape.processes
    memory = quantity.memory([*per_process, profile.shared_memory])
    devices = {profile.gpu_resource: str(shape.gpus)} if shape.gpus else {}
    if rdma and profile.rdma_resource is not None and shape.nodes > 1:
        devices[profile.rdma_resource] = "1"
    requests = {
        "cpu": quantity.cores(profile.cpu_per_process, shape.processes),
        "memory": memory,
        "ephemeral-storage": profile.scratch,
    }
    return {"requests": requests | devices, "limits": {"memory": memory} | devices}


def _put_on_nodes(pod: Manifest, profile: ClusterProfile, named: dict[str, str]) -> None:
    if profile.node_selector:
        pod["nodeSelector"] = dict(profile.node_selector)
    if profile.tolerations:
        pod["tolerations"] = [t.model_dump(exclude_none=True) for t in profile.tolerations]
    if profile.priority_class is not None:
        pod["priorityClassName"] = profile.priority_class
    if profile.spread_over is not None:
        one_job = {name: named[name] for name in (RUN, TASK)}
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": profile.spread_over,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": one_job},
            }
        ]


def _add_environment(container: Manifest, profile: ClusterProfile) -> None:
    for name in profile.environment:
        if name in OWN_VARIABLES:
            raise SpecError(
                f"cluster.environment sets {name}, which the launcher needs as it is",
                "take it out of the profile",
            )
    region = profile.s3_region
    of_storage = {
        "AWS_ENDPOINT_URL": profile.s3_endpoint,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
    }
    set_variables(container, {name: v for name, v in of_storage.items() if v is not None})
    if profile.credentials_secret is not None:
        container["env"] += _keys(profile.credentials_secret)
    set_variables(container, profile.environment)


def _keys(secret: str) -> list[Manifest]:
    def of_secret(name: str, **more: Any) -> Manifest:
        return {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": secret, "key": name, **more}},
        }

    needed = [of_secret("AWS_ACCESS_KEY_ID"), of_secret("AWS_SECRET_ACCESS_KEY")]
    return [*needed, of_secret("AWS_SESSION_TOKEN", optional=True)]


def set_variables(container: Manifest, values: dict[str, str]) -> None:
    """Set variables of a container; one that is there already gets the value."""
    known = {variable["name"]: variable for variable in container["env"]}
    for name, value in values.items():
        if name not in known:
            known[name] = {"name": name}
            container["env"].append(known[name])
        known[name].pop("valueFrom", None)
        known[name]["value"] = escape_variables(value)


def _add_claims(pod: Manifest, container: Manifest, profile: ClusterProfile) -> None:
    for number, volume in enumerate(profile.volumes):
        name = f"claim-{number}"
        claim = {"claimName": volume.claim, "readOnly": volume.read_only}
        mount = {"name": name, "mountPath": volume.path, "readOnly": volume.read_only}
        pod["volumes"].append({"name": name, "persistentVolumeClaim": claim})
        container["volumeMounts"].append(mount)
