"""The images: what the control image has and is like, in pods that may write nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml

from hbseg import __version__
from tests.cluster.builder import Builder, builder
from tests.cluster.control_image import ensured
from tests.cluster.ground import Ground
from tests.cluster.namespace import TestNamespace
from tests.cluster.node.build import ensured as node_build
from tests.cluster.pods import python_pod
from tests.cluster.registry import Registry, registry

LOOK = """
import os, subprocess, sys
print(os.getuid(), os.access("/opt/hbseg", os.W_OK), os.environ["HOME"])
print(subprocess.run(["hbseg", "--version"], capture_output=True, text=True, check=True).stdout)
import hbseg_cli.main, hbseg.control, hbseg.doctor.examine, hbseg.cluster.backend
modules = [m.__spec__ for m in list(sys.modules.values()) if getattr(m, "__spec__", None)]
sources = [spec for spec in modules if spec.has_location and spec.origin.endswith(".py")]
print(len(sources) > 100, [spec.name for spec in sources if not os.path.exists(spec.cached)])
"""


@dataclass(frozen=True)
class Pushed:
    """What `make images PUSH=1` made."""

    buildah: Builder
    registry: Registry
    printed: str

    @property
    def profile(self) -> dict[str, str]:
        """The lines for `values.yaml`."""
        found: dict[str, str] = yaml.safe_load(self.printed)["profile"]
        return found


def of_control(ground: Ground, image: str, **profile: Any) -> Ground:
    """Return the ground whose pods have nothing but the control image."""
    bare = {"image": image, "environment": {}, "volumes": []}
    return replace(ground, profile={**ground.profile, **bare, **profile})


@pytest.mark.parametrize("user", [10001, 1000650000], ids=["own user", "a user of OpenShift's"])
def test_a_user_without_a_home_runs_hbseg_and_nothing_is_compiled(
    ground: Ground, namespace: TestNamespace, control_image: str, user: int
) -> None:
    spec = python_pod(of_control(ground, control_image, run_as_user=user), LOOK)
    namespace.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec})
    namespace.wait("pod/one", "jsonpath={.status.phase}=Succeeded")

    lines = namespace.kubectl("logs", "one").split("\n")
    assert lines == [f"{user} False /tmp", f"hbseg {__version__}", "", "True []", ""]


@pytest.mark.own_node
def test_the_control_image_has_at_most_250_mb() -> None:
    assert ensured(node_build()).stat().st_size <= 250_000_000  # layers are not compressed there


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """The two large images, with small packages in place of torch and TensorRT, in a registry."""
    small = "--build-arg TORCH=six --build-arg REQUIREMENTS=control --build-arg TENSORRT=idna"
    with builder(node_build()) as buildah, registry(tmp_path_factory.mktemp("registry")) as store:
        printed = buildah.make(
            REGISTRY=f"{store.host}/team/",
            IMAGES="train tensorrt",
            PUSH="1",
            BUILD_FLAGS=f"{small} --build-arg TENSORRT_INDEX=",
            CONTAINERS_REGISTRIES_CONF=str(store.configuration),
        )
        yield Pushed(buildah, store, printed)


@pytest.mark.own_node  # what it builds is made of the node's base
def test_what_was_pushed_is_printed_by_its_digests_as_values_of_the_chart(pushed: Pushed) -> None:
    keys = ("image", "tensorrt_image")
    assert list(yaml.safe_load(pushed.printed)) == ["profile"]
    assert tuple(pushed.profile) == keys
    for key, name in zip(keys, ("train", "tensorrt"), strict=True):
        assert pushed.profile[key].startswith(f"{pushed.registry.host}/team/hbseg-{name}@sha256:")
        assert pushed.registry.layers(pushed.profile[key])


@pytest.mark.own_node
def test_the_images_for_gpus_differ_by_one_layer(pushed: Pushed) -> None:
    train, tensorrt = map(pushed.registry.layers, pushed.profile.values())

    assert len(set(tensorrt) - set(train)) == 1
    assert set(train) < set(tensorrt)


@pytest.mark.own_node
@pytest.mark.parametrize("name", ["train", "tensorrt"])
def test_a_step_starts_in_the_images_for_gpus(pushed: Pushed, name: str) -> None:
    image = f"{pushed.registry.host}/team/hbseg-{name}:{__version__}"

    told = pushed.buildah.run(image, "python", "-m", "hbseg_jobs.launch", "--help")

    assert "--placement" in told
