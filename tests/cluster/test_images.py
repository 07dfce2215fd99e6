"""The images: what the control image has and is like, in pods that may write nothing of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml

from hbseg import __version__
from tests.cluster.builder import builder
from tests.cluster.control_image import ensured
from tests.cluster.ground import Ground
from tests.cluster.namespace import TestNamespace
from tests.cluster.node.build import ensured as node_build
from tests.cluster.node.paths import ROOT
from tests.cluster.pods import python_pod
from tests.cluster.registry import Registry, registry

BUILT = {name: f"localhost/hbseg-{name}:tests" for name in ("train", "tensorrt")}
"""What buildah calls the images for GPUs that the tests make."""
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
    with registry(tmp_path_factory.mktemp("registry")) as store:
        with builder(node_build()) as buildah:
            printed = buildah.make(
                REGISTRY=f"{store.host}/team/",
                IMAGES="train tensorrt",
                PUSH="1",
                BUILD_FLAGS=f"{small} --build-arg TENSORRT_INDEX=",
                CONTAINERS_REGISTRIES_CONF=str(store.configuration),
            )
            for name, image in BUILT.items():  # the registry's port is another one each time
                buildah.rename(f"{store.host}/team/hbseg-{name}:{__version__}", image)
        yield Pushed(store, printed)


@pytest.mark.own_node  # what it builds is made of the node's base
def test_what_was_pushed_is_printed_by_its_digests_as_values_of_the_chart(pushed: Pushed) -> None:
    command = ["git", "rev-parse", "HEAD"]
    head = subprocess.check_output(command, cwd=ROOT, text=True).strip()
    assert list(yaml.safe_load(pushed.printed)) == ["profile"]
    assert tuple(pushed.profile) == ("image", "tensorrt_image")
    for reference, name in zip(pushed.profile.values(), BUILT, strict=True):
        assert reference.startswith(f"{pushed.registry.host}/team/hbseg-{name}@sha256:")
        found = pushed.registry.configuration_of(reference)
        assert found["User"] == "10001:0"
        labels = {label.rpartition(".")[2]: text for label, text in found["Labels"].items()}
        assert (labels["title"], labels["licenses"]) == (f"hbseg-{name}", "Apache-2.0")
        assert labels["revision"][:40] == head


@pytest.mark.own_node
def test_the_images_for_gpus_differ_by_one_layer(pushed: Pushed) -> None:
    train, tensorrt = map(pushed.registry.layers, pushed.profile.values())

    assert len(set(tensorrt) - set(train)) == 1
    assert set(train) < set(tensorrt)


@pytest.mark.own_node
@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("image", BUILT.values(), ids=BUILT)
def test_a_step_starts_in_the_images_for_gpus(image: str) -> None:
    with builder(node_build()) as buildah:
        told = buildah.run(image, "python", "-m", "hbseg_jobs.launch", "--help")

    assert "--placement" in told


@pytest.mark.own_node
@pytest.mark.usefixtures("pushed")
def test_the_image_of_tests_on_other_clusters_adds_the_fake_steps() -> None:
    image, train = "localhost/hbseg-tests:tests", f"--build-arg=TRAIN={BUILT['train']}"
    file = ("--file", f"{ROOT}/tests/cluster/Dockerfile", str(ROOT))
    code = "import hbseg_jobs, tests.integration.fakes.fake_step as step; print(step.__file__)"
    with builder(node_build()) as buildah:
        buildah.buildah("build", "--layers", train, "--tag", image, *file)
        told = buildah.run(image, "python", "-c", code)

    assert told == "/opt/tests/tests/integration/fakes/fake_step.py\n"
