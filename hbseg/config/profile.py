"""What a cluster's pods are given: image, resources, place, credentials, network. Never hashed.

A team's profile stands under `cluster:` in `hbseg.yaml`:

    cluster:
      image: registry.example/hbseg-train:0.1.0
      credentials_secret: hbseg-s3
      s3_endpoint: https://s3.example
      queue: team-a
      environment: {NCCL_SOCKET_IFNAME: eth0}
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from hbseg import __version__
from hbseg.config.secrets import is_secret
from hbseg.documents import Block

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|[MGTP]|[KMGTP]i)?$", max_length=20)]
"""A Kubernetes quantity: cores (`500m`, `4`) or bytes (`16Gi`)."""
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
AbsolutePath = Annotated[str, Field(pattern=r"^/[^:]*$", max_length=1024)]

UNSEEN_FOLDER_HINT: Final = "give s3://BUCKET/FOLDER, or a folder below a volume of cluster.volumes"
"""The next step of a person whose folder pods do not see."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ImageKind(StrEnum):
    """What an image has."""

    TRAIN = "train"
    """torch and ONNX Runtime."""
    CONTROL = "control"
    """hbseg alone, without torch."""
    TENSORRT = "tensorrt"
    """torch and TensorRT."""


class Toleration(Block):
    """A taint of nodes that pods put up with, e.g. of spot machines."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Volume(Block):
    """A volume claim of the namespace, mounted into every pod."""

    claim: ObjectName
    path: AbsolutePath
    """Where it is mounted."""
    read_only: bool = True


class ClusterProfile(Block):
    """Image, resources, place, credentials and network of the pods."""

    image: str = f"hbseg/train:{__version__}"
    """Image of the steps that need torch."""
    control_image: str = f"hbseg/control:{__version__}"
    """Image of the pipeline's runner, without torch."""
    tensorrt_image: str | None = None
    """Image of the steps that make or run TensorRT engines; none: `image`."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[ObjectName, ...] = ()
    service_account: ObjectName | None = None
    """Service account of the pods, for workload identity; none: the namespace's default."""
    runner_service_account: ObjectName = "hbseg-runner"
    """Service account of the pipeline's runner, which makes jobs."""
    credentials_secret: ObjectName | None = None
    """Secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, perhaps `AWS_SESSION_TOKEN`;
    none: workload identity."""
    s3_endpoint: str | None = None
    """URL of the S3 server as pods reach it; none: that of the cloud."""
    s3_region: str | None = None
    gpu_resource: str = "nvidia.com/gpu"
    """Name of a GPU for the scheduler; `nvidia.com/mig-1g.10gb` for a part of one."""
    gpus_per_process: Annotated[int, Field(ge=0, le=16)] = 1
    """GPUs of one training process; 0: CPU only."""
    cpu_per_process: Quantity = "4"
    """Cores that one process asks for."""
    memory_per_process: Quantity = "16Gi"
    """Memory of one process, asked for and limit."""
    shared_memory: Quantity = "4Gi"
    """Size of /dev/shm, which counts as the pod's memory."""
    scratch: Quantity = "50Gi"
    """Local disk of a pod: samples, checkpoints on their way, logs."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    spread_over: str | None = None
    """Label of nodes over whose values the pods of one job are spread, e.g.
    `kubernetes.io/hostname`; as far as possible."""
    priority_class: ObjectName | None = None
    queue: ObjectName | None = None
    """Kueue's LocalQueue."""
    environment: dict[str, str] = {}
    """Further environment, e.g. `NCCL_*`, `GLOO_SOCKET_IFNAME`; never a secret."""
    rdma_resource: str | None = None
    """Name of an RDMA device for the scheduler, one a pod, e.g. `rdma/hca`."""
    volumes: tuple[Volume, ...] = ()
    run_as_user: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1000
    """User of the processes; never root."""
    termination_grace: Annotated[int, Field(ge=30, le=3600)] = 60
    """Seconds from SIGTERM to SIGKILL of a pod: time for a checkpoint."""
    keep_finished: Annotated[int, Field(ge=60)] = 7 * 24 * 3600
    """Seconds after which the cluster forgets a batch job that has ended."""

    def sees(self, url: str) -> bool:
        """Return whether pods see the folder behind a URL: in S3, or below one of their volumes."""
        folder = PurePosixPath(url)
        return "://" in url or any(folder.is_relative_to(volume.path) for volume in self.volumes)

    def image_of(self, kind: ImageKind) -> str:
        """Return the image of a kind."""
        images = {
            ImageKind.TRAIN: self.image,
            ImageKind.CONTROL: self.control_image,
            ImageKind.TENSORRT: self.tensorrt_image or self.image,
        }
        return images[kind]

    @field_validator("environment")
    @classmethod
    def _without_secrets(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r:.60} is no name of an environment variable")
            if is_secret(name, value):
                raise ValueError(
                    f"{name} looks like a secret, and manifests show it: put it into a Secret, and "
                    f"set cluster.secret_environment: {{{name}: {{secret: S, key: K}}}}"
                )
        return environment

    @field_validator("s3_endpoint")
    @classmethod
    def _without_password(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        if "@" in endpoint:
            raise ValueError("a URL with a password is not put into manifests: use a Secret")
        if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", endpoint):
            raise ValueError(f"expected http://HOST:PORT or https://HOST, found {endpoint!r:.80}")
        return endpoint
