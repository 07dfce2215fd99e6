"""The pod of a step: its command, environment, resources, volumes and place on the nodes."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from hbseg.cluster.names import RUN, TASK, labels, spec_name
from hbseg.cluster.objects import Manifest
from hbseg.cluster.pods import quantity
from hbseg.cluster.pods.resources import set_resources
from hbseg.cluster.pods.volumes import add_volumes, set_scratch
from hbseg.config.kubernetes_types import CA_FOLDER, given
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile, ImageKind, PodGroup, image_hint, stand_in_image
from hbseg.documents import nearest
from hbseg.errors import SpecError
from hbseg.runs.engines import gpus_of_process, image_kind
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step

KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Keys of the Secret with the S3 keys, and the variables that they become."""


def step_profile(profile: ClusterProfile, step: Step) -> ClusterProfile:
    """Return the profile of the pods of a step."""
    group = PodGroup.TRAINING if step.row.torchrun else PodGroup.OTHERS
    return profile.for_pods(group, step.value)


def check_profile(profile: ClusterProfile) -> None:
    """Refuse a profile with values for pods that there are not.

    Raises:
        SpecError: `cluster.steps` names no step and no group of steps.
    """
    known = [*PodGroup, *Step]
    for name in profile.steps:
        if name not in known:
            raise SpecError(f"unknown step cluster.steps.{name}; {nearest(name, known)}")


class PodShape(NamedTuple):
    """How much of a node a pod takes."""

    processes: int
    gpus: int
    nodes: int
    """Pods of the job, one a node."""
    is_gang: bool
    """Whether the pods can only run together."""

    @classmethod
    def of(cls, call: StepCall, placement: Placement) -> PodShape:
        """Return the shape of a step's pods; only a training has several processes in one."""
        row, profile = call.step.row, step_profile(placement.cluster, call.step)
        processes = placement.processes_per_node if row.torchrun else 1
        gpus = gpus_of_process(call.step, call.engine, profile.gpus_per_process)
        nodes = placement.nodes if row.torchrun or row.shared else 1
        return cls(processes, processes * gpus, nodes, is_gang=row.torchrun)


def in_pod(placement: Placement, profile: ClusterProfile, shape: PodShape) -> Placement:
    """Return the placement as a pod's launcher is told it; `profile` is the step's.

    Without a number of threads a process gets the cores that it asked for, and not, as on a
    machine of one's own, all that there are. The pods of a training fail together; those of other
    steps each for itself, so that their retries add up.
    """
    own = max(1, math.floor(quantity.amount(profile.cpu_per_process)))
    threads = placement.threads_per_process or own
    retries = placement.retries * (1 if shape.is_gang else shape.nodes)
    return placement.model_copy(
        update={"nodes": shape.nodes, "threads_per_process": threads, "retries": retries}
    )


def require_image(step: Step, engine: str | None, placement: Placement) -> None:
    """Refuse a step whose pods would have the image that only stands in.

    `engine` is the kind of engine that it makes or runs, if any.

    Raises:
        SpecError: the profile names no image.
    """
    kind = image_kind(step, engine)
    if step_profile(placement.cluster, step).image_of(kind) is None:
        raise SpecError(no_image(kind, step), image_hint(kind))


def no_image(kind: ImageKind, *steps: Step) -> str:
    """Return the words for steps, at least one, without an image of a kind."""
    what = "image with TensorRT" if kind == ImageKind.TENSORRT else "image"
    *others, last = steps
    names = f"{', '.join(others)} and {last}" if others else last
    return f"no {what} for the pods of {names}"


def image_for(call: StepCall, profile: ClusterProfile) -> str:
    """Return the image of a step's pods; `profile` is the step's."""
    kind = image_kind(call.step, call.engine)
    return profile.image_of(kind) or stand_in_image(kind)


def complete_step(template: Manifest, call: StepCall, placement: Placement) -> None:
    """Put what the call and the placement say into the pod template of a step.

    Raises:
        SpecError: the profile asks for what pods cannot have.
    """
    profile, shape = step_profile(placement.cluster, call.step), PodShape.of(call, placement)
    pod = template["spec"]
    container = pod["containers"][0]
    container["image"] = image_for(call, profile)
    container["args"] = _arguments(call, placement, profile, shape)
    set_variables(container, {"HBSEG_NODES": str(shape.nodes)})
    named = {volume["name"]: volume for volume in pod["volumes"]}
    named["spec"]["configMap"]["name"] = spec_name(call.spec)
    named["shm"]["emptyDir"]["sizeLimit"] = profile.shared_memory
    set_scratch(named["scratch"], profile.scratch)
    several = shape.is_gang and shape.nodes > 1
    set_resources(pod, profile, processes=shape.processes, gpus=shape.gpus, rdma=several)
    if shape.gpus and profile.gpu_runtime_class is not None:
        pod["runtimeClassName"] = profile.gpu_runtime_class
    if profile.service_account is not None:
        pod["serviceAccountName"] = profile.service_account
    complete_pod(template, profile, labels(call.run, call.step, call.task_name))


def complete_pod(template: Manifest, profile: ClusterProfile, named: dict[str, str]) -> None:
    """Put into a pod template what the profile of the pod says, and the labels `named`.

    Raises:
        SpecError: an override changes what is hbseg's, or breaks the `restricted` standard.
    """
    template["metadata"] = {"labels": given(profile.labels) | named}
    if annotations := given(profile.annotations):
        template["metadata"]["annotations"] = annotations
    pod = template["spec"]
    container = pod["containers"][0]
    pod["terminationGracePeriodSeconds"] = profile.termination_grace
    _set_user(pod, profile.run_as_user)
    container["imagePullPolicy"] = profile.image_pull_policy
    if profile.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in profile.image_pull_secrets]
    _put_on_nodes(pod, profile, named)
    _add_environment(container, profile)
    add_volumes(pod, container, profile)
    if profile.pod_overrides:
        from hbseg.cluster.pods.overrides import with_overrides

        with_overrides(template, profile)


def _set_user(pod: Manifest, user: int | None) -> None:
    security = pod["securityContext"]
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        if user is None:  # the namespace has a range of its own, from which one is taken
            security.pop(name, None)
        else:
            security[name] = user


def _arguments(
    call: StepCall, placement: Placement, profile: ClusterProfile, shape: PodShape
) -> list[str]:
    own = [
        *("--in-pod", "--job", "/scratch/job"),
        *("--grace", str(profile.termination_grace)),
        *("--module", call.step.row.module),
        *("--placement", in_pod(placement, profile, shape).for_launcher()),
    ]
    step = call.arguments(spec_file="/etc/hbseg/spec.yaml", work="/scratch/work")
    return [escape_variables(str(argument)) for argument in (*own, "--", *step)]


def escape_variables(text: str) -> str:
    """Return text that a pod gets as it is: Kubernetes puts variables in for `$(NAME)`."""
    return text.replace("$(", "$$(")


def _put_on_nodes(pod: Manifest, profile: ClusterProfile, named: dict[str, str]) -> None:
    if selector := given(profile.node_selector):
        pod["nodeSelector"] = selector
    if profile.tolerations:
        pod["tolerations"] = [
            t.model_dump(exclude_none=True, by_alias=True) for t in profile.tolerations
        ]
    if profile.priority_class is not None:
        pod["priorityClassName"] = profile.priority_class
    if profile.scheduler is not None:
        pod["schedulerName"] = profile.scheduler
    if profile.spread_over is not None:
        one_job = {name: named[name] for name in (RUN, TASK) if name in named}
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": profile.spread_over,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": one_job},
            }
        ]


def _add_environment(container: Manifest, profile: ClusterProfile) -> None:
    region, bundle, checksums = profile.s3_region, profile.ca_bundle, profile.s3_checksums
    of_storage = {
        "AWS_ENDPOINT_URL": profile.s3_endpoint,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_REQUEST_CHECKSUM_CALCULATION": checksums,
        "AWS_RESPONSE_CHECKSUM_VALIDATION": checksums,
        "HBSEG_S3_ADDRESSING": profile.s3_addressing,
        "AWS_CA_BUNDLE": None if bundle is None else f"{CA_FOLDER}/{bundle.key}",
    }
    set_variables(container, given(of_storage))
    if profile.credentials_secret is not None:
        container["env"] += _keys(profile.credentials_secret)
    for name, key in profile.secret_environment.items():
        if key is not None:
            if name in given(profile.environment):
                raise SpecError(
                    f"{name} is in cluster.environment and in cluster.secret_environment",
                    f"take one out; environment: {{{name}: null}} takes out that of a wider layer",
                )
            container["env"].append(_of_secret(name, key.secret, key.key, optional=key.optional))
    set_variables(container, given(profile.environment))


def _keys(secret: str) -> list[Manifest]:
    needed = [_of_secret(name, secret, name) for name in KEYS]
    return [*needed, _of_secret("AWS_SESSION_TOKEN", secret, "AWS_SESSION_TOKEN", optional=True)]


def _of_secret(name: str, secret: str, key: str, *, optional: bool = False) -> Manifest:
    reference: dict[str, Any] = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def set_variables(container: Manifest, values: dict[str, str]) -> None:
    """Set variables of a container; one that is there already gets the value."""
    known = {variable["name"]: variable for variable in container["env"]}
    for name, value in values.items():
        if name not in known:
            known[name] = {"name": name}
            container["env"].append(known[name])
        known[name].pop("valueFrom", None)
        known[name]["value"] = escape_variables(value)
