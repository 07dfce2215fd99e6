"""The examples of docs/profiles, and what is rendered with them."""

from __future__ import annotations

from typing import Any, Final

from hbseg.cluster.rendering.manifests import job_objects, runner_objects
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from hbseg.config.settings import SettingsFile
from tests.unit.cluster.rendering.cases import INFER, ROOT, STAGE1

FOLDER: Final = ROOT / "docs" / "profiles"
PROFILES: Final = sorted(path.stem for path in FOLDER.glob("*.yaml"))
"""Names of the examples."""


def profile(name: str) -> ClusterProfile:
    """Return an example as it is read from its file."""
    path = FOLDER / f"{name}.yaml"
    return SettingsFile.from_text(path.read_bytes(), source=path.name).cluster


def rendered(name: str) -> list[dict[str, Any]]:
    """Return the objects of a training on two nodes, of inference and of the runner."""
    placement = Placement(nodes=2, processes_per_node=4, cluster=profile(name))
    settings = {"backend": "kubernetes", "data": "s3://team/data", "runs": "s3://team/runs"}
    return [
        *job_objects(STAGE1, placement),
        *job_objects(INFER, placement),
        *runner_objects("main", {}, settings, placement, owner="alice"),
    ]


def pods(name: str) -> dict[str, Any]:
    """Return the pods of a profile by the name of their step."""
    training, inference, runner = (item for item in rendered(name) if item["kind"] != "ConfigMap")
    (replica,) = training["spec"]["pytorchReplicaSpecs"].values()
    return {
        "stage1": replica["template"],
        "infer": inference["spec"]["template"],
        "pipeline": runner["spec"]["template"],
    }


def jobs(name: str) -> dict[str, Any]:
    """Return the jobs of a profile by the name of their step."""
    found = [item for item in rendered(name) if item["kind"] != "ConfigMap"]
    return {item["metadata"]["labels"]["hbseg.io/step"]: item for item in found}
