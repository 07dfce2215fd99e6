"""The objects of a step on the cluster, from plain YAML and typed values.

What is the same for every job stands in `manifests/*.yaml`, each constant with its reason; here it
is completed with what comes from the spec and the placement. No object is made from text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hbseg.cluster import names
from hbseg.cluster.base_manifest import load_manifest
from hbseg.cluster.kinds import kind_of_step
from hbseg.cluster.kinds.job_names import job_name
from hbseg.cluster.objects import Manifest
from hbseg.cluster.pods.resources import set_resources
from hbseg.cluster.pods.template import (
    PodShape,
    complete_pod,
    escape_variables,
    image_for,
    in_pod,
    set_variables,
    step_profile,
)
from hbseg.cluster.pods.volumes import set_scratch
from hbseg.cluster.rendering.lint import problems
from hbseg.config.kubernetes_types import given
from hbseg.config.placement import Placement
from hbseg.config.profile import (
    UNSEEN_FOLDER_HINT,
    ClusterProfile,
    ImageKind,
    PodGroup,
    stand_in_image,
)
from hbseg.documents import canonical_digest, dump_yaml
from hbseg.errors import SpecError, UsageError
from hbseg.runs.step_call import StepCall

MAX_CONFIG_MAP = 2**20
"""Bytes of a ConfigMap's data that the API server takes."""
NO_CONTROL_IMAGE = "no image for runner and doctor"
CONTROL_IMAGE_HINT = "set cluster.control_image in hbseg.yaml (profile.control_image of the chart)"
"""The next step of a person without an image of the runner."""


def job_objects(
    call: StepCall, placement: Placement, *, namespace: str | None = None
) -> list[Manifest]:
    """Return the objects of a step: the ConfigMap of its spec, then its job.

    They are the same for the same call and placement, and in the order in which they are made.
    Without `namespace` they name none.

    Raises:
        SpecError: the cluster would take a job and then break on it.
    """
    digest = call.spec.digest()
    profile = step_profile(placement.cluster, call.step)
    spec = _config_map(digest, {"spec.yaml": call.spec.to_yaml()}, call.run, call.step)
    job = kind_of_step(call.step).render(call, placement)
    job["metadata"] = {
        "name": job_name(call.run, call.prefix),
        "labels": job_labels(profile, names.labels(call.run, call.step, call.task_name)),
        "annotations": {
            **given(profile.job_annotations),
            names.SPEC_HASH: digest,
            names.PREFIX: call.prefix,
            names.RUNS: call.runs,
            names.DATA: call.data,
            names.PLACEMENT: _told(call, placement, profile),
            names.PENDING_TIMEOUT: f"{placement.pending_timeout:g}",
        },
    }
    return _checked([spec, job], namespace)


def runner_objects(
    run: str,
    specs: Mapping[str, Any],
    settings: Mapping[str, Any],
    placement: Placement,
    *,
    owner: str,
    namespace: str | None = None,
) -> list[Manifest]:
    """Return the objects of the runner of a whole chain: its ConfigMap, then its batch Job.

    `specs` are the specs by step as `hbseg pipeline run --config` reads them, `settings` is the
    content of the `hbseg.yaml` that the runner finds: storage, cluster. It works in the name of
    `owner`, who holds the run.

    Raises:
        SpecError: the cluster would take the job and then break on it.
    """
    data = {"spec.yaml": dump_yaml(dict(specs)), "hbseg.yaml": dump_yaml(dict(settings))}
    digest = canonical_digest(data)
    config = _config_map(digest, data, run, names.PIPELINE)
    job = load_manifest("pipeline.yaml")
    profile = placement.cluster.for_pods(PodGroup.RUNNER)
    named = names.labels(run, names.PIPELINE, names.PIPELINE)
    job["metadata"] = {
        "name": job_name(run, names.PIPELINE),
        "labels": job_labels(profile, named),
        "annotations": {**given(profile.job_annotations), names.SPEC_HASH: digest},
    }
    job["spec"]["ttlSecondsAfterFinished"] = profile.keep_finished
    pod = job["spec"]["template"]["spec"]
    _complete_runner(pod, profile, digest, owner)
    pod["containers"][0]["args"] = [
        escape_variables(argument) for argument in _runner_arguments(run, placement)
    ]
    complete_pod(job["spec"]["template"], profile, named)
    return _checked([config, job], namespace)


def _complete_runner(pod: Manifest, profile: ClusterProfile, digest: str, owner: str) -> None:
    pod["serviceAccountName"] = profile.runner_service_account
    named = {volume["name"]: volume for volume in pod["volumes"]}
    named["spec"]["configMap"]["name"] = names.spec_name_of(digest)
    set_scratch(named["scratch"], profile.scratch)
    set_resources(pod, profile)
    container = pod["containers"][0]
    container["image"] = profile.image_of(ImageKind.CONTROL) or stand_in_image(ImageKind.CONTROL)
    set_variables(container, {"USER": owner})


def check_storage(urls: Iterable[str], profile: ClusterProfile) -> None:
    """Refuse storage that pods do not see: folders that no volume of theirs brings.

    Raises:
        UsageError: one of `urls` is such a folder.
    """
    for url in urls:
        if not profile.sees(url):
            raise UsageError(f"pods do not see the folder {url}", UNSEEN_FOLDER_HINT)


def _runner_arguments(run: str, placement: Placement) -> list[str]:
    return [
        *(run, "--backend", "kubernetes", "--config", "/etc/hbseg/spec.yaml"),
        *("-j", f"{placement.nodes}x{placement.processes_per_node}"),
        *("--retries", str(placement.retries)),
        *("--pending-timeout", f"{placement.pending_timeout:g}"),
        *("--stall-timeout", f"{placement.stall_timeout:g}"),
    ]


def _config_map(digest: str, data: dict[str, str], run: str, step: str) -> Manifest:
    config = load_manifest("spec.yaml")
    config["metadata"] = {
        "name": names.spec_name_of(digest),
        "labels": names.labels(run, step),
        "annotations": {names.SPEC_HASH: digest},
    }
    config["data"] = data
    size = sum(len(text.encode()) for text in data.values())
    if size > MAX_CONFIG_MAP:
        raise SpecError(f"the spec has {size} bytes, a ConfigMap holds {MAX_CONFIG_MAP}")
    return config


def job_labels(profile: ClusterProfile, named: dict[str, str]) -> dict[str, str]:
    """Return the labels of a job: the profile's, its queue, and `named`."""
    queue = {names.QUEUE: profile.queue, names.QUEUE_PRIORITY: profile.queue_priority}
    return given(profile.labels) | named | given(queue)


def _told(call: StepCall, placement: Placement, profile: ClusterProfile) -> str:
    """Return as JSON what people and `hbseg diff` are told of a job's place."""
    shape = PodShape.of(call, placement)
    told: dict[str, Any] = {
        "nodes": shape.nodes,
        "processes_per_node": shape.processes,
        "threads_per_process": in_pod(placement, profile, shape).threads_per_process,
        "retries": placement.retries,
        "stall_timeout": placement.stall_timeout,
        "image": image_for(call, profile),
        "gpus": shape.gpus,
        "gpu_resource": profile.gpu_resource,
        "queue": profile.queue,
    }
    return json.dumps(told, separators=(",", ":"))


def _checked(objects: list[Manifest], namespace: str | None) -> list[Manifest]:
    for manifest in objects:
        if namespace is not None:
            manifest["metadata"]["namespace"] = namespace
        found = problems(manifest)
        if found:
            named = f"{manifest['kind']} {manifest['metadata']['name']}"
            raise SpecError(f"{named}: {'; '.join(found)}")
    return objects
