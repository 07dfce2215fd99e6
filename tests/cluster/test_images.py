"""The images: what the control image has and is like, in pods that may write nothing of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hbseg import __version__
from tests.cluster.ground import Ground
from tests.cluster.namespace import TestNamespace
from tests.cluster.pods import python_pod

LOOK = """
import os, subprocess, sys
print(os.getuid(), os.access("/opt/hbseg", os.W_OK), os.environ["HOME"])
print(subprocess.run(["hbseg", "--version"], capture_output=True, text=True, check=True).stdout)
import hbseg_cli.main, hbseg.control, hbseg.doctor.examine, hbseg.cluster.backend
modules = [m.__spec__ for m in list(sys.modules.values()) if getattr(m, "__spec__", None)]
sources = [spec for spec in modules if spec.has_location and spec.origin.endswith(".py")]
print(len(sources) > 100, [spec.name for spec in sources if not os.path.exists(spec.cached)])
"""


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
