"""What a container asks for, and its limits: cores, memory, disk, GPUs and other devices."""

from __future__ import annotations

from typing import Final

from hbseg.cluster.objects import Manifest
from hbseg.cluster.pods import quantity
from hbseg.config.kubernetes_types import given
from hbseg.config.profile import ClusterProfile
from hbseg.errors import SpecError

_OTHER_KEYS: Final = {
    "cpu": "cluster.cpu_per_process",
    "memory": "cluster.memory_per_process",
    "ephemeral-storage": "cluster.scratch",
}
"""Resources that are no devices, and the keys that say how much of them."""


def set_resources(
    pod: Manifest, profile: ClusterProfile, *, processes: int = 1, gpus: int = 0, rdma: bool = False
) -> None:
    """Set requests and limits of a pod's first container, whose volumes have their sizes.

    Raises:
        SpecError: a limit is below what is asked for, or parts of GPUs are joined.
    """
    shared = list(_sizes(pod, in_memory=True))
    memory = quantity.memory([*[profile.memory_per_process] * processes, *shared])
    requests = {
        "cpu": quantity.cores(profile.cpu_per_process, processes),
        "memory": memory,
        "ephemeral-storage": quantity.memory(_sizes(pod, in_memory=False)),
    }
    devices = _devices(profile, processes, gpus, rdma=rdma)
    limits = {"memory": memory} | _limits(profile, requests) | devices
    pod["containers"][0]["resources"] = {"requests": requests | devices, "limits": limits}


def set_limits(container: Manifest, profile: ClusterProfile) -> None:
    """Add the limits of the profile to a container that has its own requests.

    Raises:
        SpecError: a limit is below what is asked for.
    """
    resources = container["resources"]
    resources["limits"] |= _limits(profile, resources["requests"])


def _sizes(pod: Manifest, *, in_memory: bool) -> list[str]:
    directories = [volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume]
    return [d["sizeLimit"] for d in directories if (d.get("medium") == "Memory") == in_memory]


def _limits(profile: ClusterProfile, requests: dict[str, str]) -> dict[str, str]:
    asked = {"cpu": profile.limits.cpu, "ephemeral-storage": profile.limits.ephemeral_storage}
    limits = {}
    for name, limit in given(asked).items():
        limits[name] = requests[name] if limit == "request" else limit
        if quantity.amount(limits[name]) < quantity.amount(requests[name]):
            key = f"cluster.limits.{name.replace('-', '_')}"
            raise SpecError(
                f"{key} is {limit}, and the pod asks for {requests[name]}",
                f"set {key} to `request`, or ask for less",
            )
    return limits


def _devices(profile: ClusterProfile, processes: int, gpus: int, *, rdma: bool) -> dict[str, str]:
    resource = profile.gpu_resource
    if "/mig-" in resource and gpus > processes:
        raise SpecError(
            f"a process cannot join {gpus // processes} parts of GPUs ({resource})",
            "set cluster.gpus_per_process to 1, or name a larger part",
        )
    devices = {resource: str(gpus)} if gpus else {}
    if rdma and profile.rdma_resource is not None:
        devices[profile.rdma_resource] = "1"
    for name in given(profile.devices):
        if name in (*devices, *_OTHER_KEYS):
            key = _OTHER_KEYS.get(name, "cluster.gpu_resource or cluster.rdma_resource")
            raise SpecError(f"cluster.devices names {name}, which has a key of its own: {key}")
    return devices | given(profile.devices)
