"""What the pods of a step are given: image, resources, place, environment, volumes."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from hbseg.config.kubernetes_types import (
    Annotations,
    DataKey,
    Environment,
    Image,
    LabelKey,
    Labels,
    Limit,
    MountPath,
    NodeLabels,
    ObjectName,
    Quantity,
    ResourceName,
    SubPath,
    VariableNames,
)
from hbseg.config.pod_overrides import PodOverrides
from hbseg.documents import Block


class Toleration(Block):
    """A taint of nodes that pods tolerate, e.g. of spot machines."""

    key: str | None = None
    """Key of the taint; none, with `operator: Exists`: all taints."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the value must be equal, or the taint only exist."""
    value: str | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; none: all effects."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = Field(
        default=None, alias="tolerationSeconds"
    )
    """Seconds that a pod stays on a node with a NoExecute taint; none: for ever."""

    @model_validator(mode="after")
    def _fits(self) -> "Toleration":
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("operator Exists has no value; take it out, or use Equal")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("operator Equal needs a key; Exists without a key is all taints")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds needs effect: NoExecute")
        return self


class Volume(Block):
    """A volume of the namespace, mounted into every pod: of a claim, a ConfigMap or a Secret."""

    claim: ObjectName | None = None
    """Name of a PersistentVolumeClaim."""
    config_map: ObjectName | None = None
    """Name of a ConfigMap."""
    secret: ObjectName | None = None
    """Name of a Secret."""
    path: MountPath
    """Where it is mounted."""
    sub_path: SubPath | None = None
    """Folder of the volume that is mounted; none: its root."""
    read_only: bool = True
    """Whether pods may only read it; ConfigMaps and Secrets are never written."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        _check_one(claim=self.claim, config_map=self.config_map, secret=self.secret)
        return self


class SecretKey(Block):
    """A key of a Secret of the namespace."""

    secret: ObjectName
    """Name of the Secret."""
    key: DataKey
    """Key in its data."""
    optional: bool = False
    """Whether pods start without it."""


class CaBundle(Block):
    """Certificates of a private authority, as PEM in a ConfigMap or a Secret of the namespace."""

    config_map: ObjectName | None = None
    """Name of the ConfigMap that has them."""
    secret: ObjectName | None = None
    """Name of the Secret that has them."""
    key: DataKey = "ca.crt"
    """Key in its data."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        _check_one(config_map=self.config_map, secret=self.secret)
        return self


class Scratch(Block):
    """The disk of a pod at /scratch: samples, checkpoints on their way, logs."""

    size: Quantity = "50Gi"
    """Bytes."""
    storage_class: ObjectName | None = None
    """StorageClass of a volume that lives as long as the pod; none: the node's own disk."""

    @model_validator(mode="before")
    @classmethod
    def _size_alone(cls, value: Any) -> Any:
        return {"size": value} if isinstance(value, str | int) else value


class Limits(Block):
    """Limits of a pod for quotas that count them; memory always has one."""

    cpu: Limit | None = None
    """Cores; `request`: as many as it asks for; none: no limit."""
    ephemeral_storage: Limit | None = None
    """Bytes of the node's disk; `request`: as many as it asks for; none: no limit."""


class Gang(Block):
    """How a gang scheduler starts all pods of a training together or none."""

    queue: ObjectName | None = None
    """Queue of the gang scheduler."""
    priority_class: ObjectName | None = None
    """Priority class of the gang."""


class PodProfile(Block):
    """What pods are given; under `steps:` each key may differ from step to step."""

    image: Image | None = None
    """Image of the steps."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When nodes pull images."""
    labels: Labels = {}
    """Further labels of jobs and pods."""
    annotations: Annotations = {}
    """Annotations of pods, e.g. `karpenter.sh/do-not-disrupt`."""
    job_annotations: Annotations = {}
    """Annotations of jobs."""
    gpu_resource: ResourceName = "nvidia.com/gpu"
    """Name of a GPU for the scheduler; `nvidia.com/mig-1g.10gb` for a part of one."""
    gpus_per_process: Annotated[int, Field(ge=0, le=16)] = 1
    """GPUs of one training process; 0: CPU only."""
    gpu_runtime_class: ObjectName | None = None
    """RuntimeClass of the pods with GPUs, e.g. `nvidia`."""
    cpu_per_process: Quantity = "4"
    """Cores that one process asks for."""
    memory_per_process: Quantity = "16Gi"
    """Memory of one process, asked for and limit."""
    shared_memory: Quantity = "4Gi"
    """Size of /dev/shm, which counts as the pod's memory."""
    scratch: Scratch = Scratch()
    """The disk at /scratch; a size alone is taken, too."""
    limits: Limits = Limits()
    """Limits for quotas that count them."""
    devices: dict[ResourceName, Quantity | None] = {}
    """Further resources of each pod of a training, asked for and limit, e.g.
    `vpc.amazonaws.com/efa: 32`, `hugepages-2Mi: 5120Mi`."""
    rdma_resource: ResourceName | None = None
    """Name of an RDMA device, one for each pod of a training on several nodes, e.g. `rdma/hca`."""
    node_selector: NodeLabels = {}
    """Labels of the nodes that may run the pods."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of nodes that the pods tolerate."""
    spread_over: LabelKey | None = None
    """Label of nodes over whose values the pods of one job are spread, e.g.
    `kubernetes.io/hostname`; as far as possible."""
    priority_class: ObjectName | None = None
    """PriorityClass of the pods."""
    scheduler: ObjectName | None = None
    """Scheduler of the pods; none: the cluster's default."""
    gang: Gang | None = None
    """Asks the training operator for gang scheduling."""
    queue: ObjectName | None = None
    """Kueue's LocalQueue."""
    queue_priority: ObjectName | None = None
    """Kueue's WorkloadPriorityClass."""
    environment: Environment = {}
    """Further environment, e.g. `NCCL_*`, `GLOO_SOCKET_IFNAME`; never a secret."""
    secret_environment: Annotated[dict[str, SecretKey | None], VariableNames] = {}
    """Environment from Secrets, by the variables' names."""
    volumes: tuple[Volume, ...] = ()
    """Volumes that are mounted into every pod."""
    termination_grace: Annotated[int, Field(ge=10, le=3600)] = 60
    """Seconds from SIGTERM to SIGKILL of a pod: time for a checkpoint."""
    pod_overrides: PodOverrides = {}
    """Merged into the pod template at last, as `kubectl patch --type strategic` does: lists by
    name, null removes. The container of the step is called `main` here."""
    unrestricted: bool = False
    """Whether `pod_overrides` may break the `restricted` Pod Security standard."""


def _check_one(**sources: str | None) -> None:
    """Raise ValueError unless exactly one source is set."""
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise ValueError(f"expected one of {', '.join(sources)}, found {found}")
