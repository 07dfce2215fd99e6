"""Calls, placements and rendered jobs that the tests of manifests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hbseg.cluster.rendering.manifests import (
    job_objects,
    runner_objects,
)
from hbseg.config.placement import Placement
from hbseg.config.pod_profile import Toleration, Volume
from hbseg.config.profile import ClusterProfile, laid
from hbseg.config.specs import (
    CompileSpec,
    EfficiencySpec,
    InferSpec,
    ModelBlock,
    PrepareSpec,
    ReportSpec,
    Spec,
    TrainSpec,
)
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step

ROOT = Path(__file__).resolve().parents[4]
GOLDEN = ROOT / "tests" / "golden"
STEPS = ("train.yaml", "train-elastic.yaml", "step.yaml")
"""Plain files of the steps."""
PLAIN = sorted(path.name for path in (ROOT / "manifests").glob("*.yaml"))

Manifest = dict[str, Any]

RUN = "s3://team/runs/main"
DATASET = "s3://team/data/versions/12e5678"
"""A digest that YAML 1.2 reads as a number where it is not quoted."""
ENGINE = f"{RUN}/engine/0a1b2c3d4e5f"
THROUGHPUT_ENGINE = f"{RUN}/engine/5f4e3d2c1b0a"
PROFILE = ClusterProfile(
    image="images.example/hbseg-train:1",
    control_image="images.example/hbseg-control:1",
    credentials_secret="hbseg-s3",
    s3_endpoint="https://s3.example",
    s3_region="eu-1",
)


def call(step: Step, prefix: str, spec: Spec, *, raw: str | None = None, **inputs: str) -> StepCall:
    return StepCall("main", step, prefix, spec, "s3://team/runs", "s3://team/data", inputs, raw=raw)


STAGE1 = call(Step.STAGE1, "stage1", TrainSpec(model=ModelBlock()), dataset=DATASET)
STAGE2 = call(
    Step.STAGE2, "stage2", TrainSpec(stage=2), dataset=DATASET, checkpoint=f"{RUN}/stage1"
)
PREPARE = call(Step.PREPARE, "prepare", PrepareSpec(), raw="s3://team/raw")
COMPILE = call(
    Step.COMPILE,
    "engine/0a1b2c3d4e5f",
    CompileSpec(),
    checkpoint=f"{RUN}/stage2",
    dataset=DATASET,
)
INFER = call(Step.INFER, "infer", InferSpec(), dataset=DATASET, engine=ENGINE)
EFFICIENCY = call(
    Step.EFFICIENCY,
    "efficiency/0a1b2c3d4e5f",
    EfficiencySpec(throughput_batch_size=8),
    engine=ENGINE,
    throughput_engine=THROUGHPUT_ENGINE,
    checkpoint=f"{RUN}/stage2",
    dataset=DATASET,
)
REPORT = call(
    Step.REPORT,
    "report",
    ReportSpec(),
    dataset=DATASET,
    stage1=f"{RUN}/stage1",
    stage2=f"{RUN}/stage2",
    valid=f"{RUN}/valid",
    infer=f"{RUN}/infer",
    efficiency=f"{RUN}/efficiency/0a1b2c3d4e5f",
)


def placed(nodes: int = 1, processes: int = 1, **profile: Any) -> Placement:
    cluster = laid(PROFILE, ClusterProfile(**profile))
    return Placement(nodes=nodes, processes_per_node=processes, cluster=cluster)


def runner() -> list[Manifest]:
    specs = {"stage1": STAGE1.spec.to_mapping(), "report": REPORT.spec.to_mapping()}
    settings = {"backend": "kubernetes", "data": "s3://team/data", "runs": "s3://team/runs"}
    return runner_objects("main", specs, settings, placed(2, 4), owner="alice")


SPOT = Toleration(key="spot", operator="Exists", effect="NoSchedule")
TRAININGS: dict[str, tuple[StepCall, Placement]] = {
    "train-one-node": (STAGE1, placed()),
    "train-2x4": (
        STAGE2,
        placed(
            2,
            4,
            spread_over="kubernetes.io/hostname",
            rdma_resource="rdma/hca",
            environment={"NCCL_SOCKET_IFNAME": "eth0", "NCCL_IB_HCA": "mlx5"},
            priority_class="training",
            service_account="hbseg-steps",
            image_pull_secrets=("images",),
        ),
    ),
    "train-cpu-only": (
        STAGE1,
        placed(
            2,
            2,
            gpus_per_process=0,
            cpu_per_process="500m",
            memory_per_process="1536Mi",
            shared_memory="256Mi",
            volumes=(Volume(claim="libraries", path="/venv"),),
            environment={"PATH": "/venv/bin:/usr/bin"},
        ),
    ),
    "train-kueue": (STAGE1, placed(2, 1, queue="team-a", gpu_resource="nvidia.com/mig-1g.10gb")),
    "train-spot": (
        STAGE1,
        placed(node_selector={"pool": "spot"}, tolerations=(SPOT,), termination_grace=30),
    ),
}
BATCH: dict[str, tuple[StepCall, Placement]] = {
    "prepare": (PREPARE, placed(2, 4)),
    "compile": (COMPILE, placed(2, 4)),
    "infer": (INFER, placed(3, 4)),
    "efficiency": (EFFICIENCY, placed(queue="team-a")),
    "report": (REPORT, placed()),
}
CASES = [*TRAININGS, *BATCH, "pipeline"]


def rendered(name: str) -> list[Manifest]:
    return runner() if name == "pipeline" else job_objects(*(TRAININGS | BATCH)[name])


def job(name: str) -> Manifest:
    return rendered(name)[-1]


def template_of(manifest: Manifest) -> Manifest:
    if manifest["kind"] == "Job":
        template: Manifest = manifest["spec"]["template"]
        return template
    (replica,) = manifest["spec"]["pytorchReplicaSpecs"].values()
    found: Manifest = replica["template"]
    return found


def pod_of(manifest: Manifest) -> Manifest:
    pod: Manifest = template_of(manifest)["spec"]
    return pod


def container_of(manifest: Manifest) -> Manifest:
    (container,) = pod_of(manifest)["containers"]
    found: Manifest = container
    return found


def environment_of(manifest: Manifest) -> dict[str, Any]:
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in container_of(manifest)["env"]}


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    middle = arguments.index("--")
    return arguments[:middle], arguments[middle + 1 :]
