"""What a cluster's pods are given: image, resources, place, credentials, network. Never hashed.

A team's profile stands under `cluster:` in `hbseg.yaml`:

    cluster:
      image: registry.example/hbseg-train:0.1.0
      credentials_secret: hbseg-s3
      s3_endpoint: https://s3.example
      environment: {HTTPS_PROXY: "http://proxy.example:3128"}
      steps:
        training: {node_selector: {pool: gpu}, environment: {NCCL_SOCKET_IFNAME: eth0}}

Profiles are laid over each other: blocks and mappings key by key, all else as a whole.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, field_validator

from hbseg import __version__
from hbseg.config.kubernetes_types import Image, ObjectName
from hbseg.config.pod_overrides import strategic_merge
from hbseg.config.pod_profile import CaBundle, PodProfile, SecretKey
from hbseg.documents import Block

UNSEEN_FOLDER_HINT: Final = "give s3://BUCKET/FOLDER, or a folder below a volume of cluster.volumes"
"""The next step of a person whose folder pods do not see."""
IMAGE_HINT: Final = "set cluster.image in hbseg.yaml (profile.image of the chart), or HBSEG_IMAGE"
"""The next step of a person without an image."""
TENSORRT_IMAGE_HINT: Final = (
    "set cluster.tensorrt_image in hbseg.yaml (profile.tensorrt_image of the chart), or give "
    "--engine onnx (a pipeline: --set compile.engine=onnx)"
)
"""The next step of a person without an image with TensorRT."""

Laid = TypeVar("Laid", bound=Block)


class ImageKind(StrEnum):
    """What an image has."""

    TRAIN = "train"
    """torch and ONNX Runtime."""
    CONTROL = "control"
    """hbseg alone, without torch."""
    TENSORRT = "tensorrt"
    """torch and TensorRT."""


class PodGroup(StrEnum):
    """Pods that a profile may give other values than the rest."""

    TRAINING = "training"
    """Those of the training stages."""
    OTHERS = "others"
    """Those of all other steps."""
    RUNNER = "runner"
    """That of a chain's runner."""


_BUILT_IN: Final[Mapping[PodGroup, Mapping[str, Any]]] = {
    PodGroup.TRAINING: {},
    PodGroup.OTHERS: {"memory_per_process": "8Gi", "shared_memory": "1Gi", "scratch": "20Gi"},
    # It mostly waits for watches; its memory is that of the libraries.
    PodGroup.RUNNER: {"cpu_per_process": "100m", "memory_per_process": "512Mi", "scratch": "1Gi"},
}
"""What a group is given where the profile says nothing."""
_OF_TRAININGS: Final = frozenset({"devices", "rdma_resource"})
_INHERITED_BY_RUNNER: Final = frozenset(
    {
        *("image_pull_policy", "labels", "annotations", "job_annotations", "limits", "queue"),
        *("queue_priority", "environment", "termination_grace"),
    }
)


class ClusterProfile(PodProfile):
    """What the pods of a namespace are given, and where they differ from step to step."""

    control_image: Image | None = None
    """Image of the pipeline's runner, without torch."""
    tensorrt_image: Image | None = None
    """Image of the steps that make or run TensorRT engines; none: these steps are refused."""
    image_pull_secrets: tuple[ObjectName, ...] = ()
    """Secrets for pulling images."""
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
    """Region of the S3 server."""
    s3_checksums: Literal["when_required", "when_supported"] | None = None
    """When requests to S3 carry checksums; none: `when_required` at an endpoint of your own,
    `when_supported` in the cloud."""
    s3_addressing: Literal["auto", "path", "virtual"] | None = None
    """Whether the bucket stands in the path or in the host name; none: `auto`."""
    ca_bundle: CaBundle | None = None
    """Certificates by which pods trust the S3 server; none: the image's."""
    run_as_user: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = 1000
    """User and group of the processes, never root; null: the namespace's, as on OpenShift."""
    keep_finished: Annotated[int, Field(ge=60)] = 7 * 24 * 3600
    """Seconds after which the cluster forgets a batch job that has ended."""
    steps: dict[str, PodProfile] = {}
    """What differs for the groups `training`, `others` and `runner`, or for one step; a step comes
    before its group. The runner has no place, volumes or resources but those that stand here."""

    def sees(self, url: str) -> bool:
        """Return whether pods see the folder behind a URL: in S3, or below one of their volumes."""
        folder = PurePosixPath(url)
        return "://" in url or any(folder.is_relative_to(volume.path) for volume in self.volumes)

    def image_of(self, kind: ImageKind) -> str | None:
        """Return the image of a kind; none where the profile names none."""
        images = {
            ImageKind.TRAIN: self.image,
            ImageKind.CONTROL: self.control_image,
            ImageKind.TENSORRT: self.tensorrt_image,
        }
        return images[kind]

    def for_pods(self, group: PodGroup, step: str | None = None) -> "ClusterProfile":
        """Return the profile of some pods: what is set for all, then for their group, their step.

        Devices are for trainings alone, and the runner takes neither place nor resources of the
        steps; where `steps` names them for a group, they count there.
        """
        of_all = self.model_fields_set - {"steps"}
        if group == PodGroup.RUNNER:
            own = PodProfile.model_fields.keys()
            of_all = {name for name in of_all if name in _INHERITED_BY_RUNNER or name not in own}
        elif group == PodGroup.OTHERS:
            of_all -= _OF_TRAININGS
        profile = _laid(ClusterProfile.model_validate(_BUILT_IN[group]), self, of_all)
        for name in (group.value, step):
            if name is not None and name in self.steps:
                profile = _with_overlay(profile, self.steps[name])
        return profile

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


def image_hint(kind: ImageKind) -> str:
    """Return the next step of a person without an image of a kind for steps."""
    return TENSORRT_IMAGE_HINT if kind == ImageKind.TENSORRT else IMAGE_HINT


def stand_in_image(kind: ImageKind) -> str:
    """Return the name that stands for an image in manifests where the profile names none."""
    return f"hbseg/{kind}:{__version__}"


def laid(base: Laid, over: Block) -> Laid:
    """Return `base` with what `over` sets laid on it: blocks and mappings key by key."""
    return _laid(base, over, over.model_fields_set)


def _laid(base: Laid, over: Block, names: set[str]) -> Laid:
    changed = {name: _laid_value(getattr(base, name), getattr(over, name)) for name in names}
    if "pod_overrides" in changed:
        old, new = getattr(base, "pod_overrides"), getattr(over, "pod_overrides")  # noqa: B009
        changed["pod_overrides"] = strategic_merge(old, new, keep_null=True)
    return base.model_copy(update=changed)


def _laid_value(old: Any, new: Any) -> Any:
    if isinstance(new, CaBundle | SecretKey):  # half of one and half of another is neither
        return new
    if isinstance(old, Block) and isinstance(new, Block):
        return laid(old, new)
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _laid_value(old.get(key), value) for key, value in new.items()}
    return new


def _with_overlay(profile: ClusterProfile, overlay: PodProfile) -> ClusterProfile:
    found = laid(profile, overlay)
    if overlay.image is None:
        return found
    # an image that a step names is the one of its pods, whatever kind they would have
    images = dict.fromkeys(("control_image", "tensorrt_image"), overlay.image)
    return found.model_copy(update=images)
