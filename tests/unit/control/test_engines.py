"""Which engine a place offers, and what it refuses before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from hbseg.config.specs import CompileSpec, InferSpec
from hbseg.control.engines import check_chain, check_place, offered_engine
from hbseg.control.pipeline import Pipeline, start_task
from hbseg.control.specs import chain_specs, default_spec, spec_of
from hbseg.errors import SpecError
from hbseg.local.backend import LocalBackend
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
from hbseg.storage.folder import FolderStore
from hbseg.system import gpu

IMAGES = {"image": "a/train:1", "tensorrt_image": "a/trt:1"}
ENGINE_STEPS = (Step.COMPILE, Step.INFER, Step.EFFICIENCY)


def placed(**profile: object) -> Placement:
    return Placement(cluster=ClusterProfile.model_validate(IMAGES | profile))


CPU_ONLY = placed(gpus_per_process=0)


@pytest.fixture(autouse=True)
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The devices of a machine without a GPU."""
    folder = tmp_path / "dev"
    folder.mkdir()
    (folder / "nvidiactl").touch()
    monkeypatch.setattr(gpu, "DEVICES", folder)
    return folder


@pytest.mark.parametrize(
    ("backend", "placement", "kind"),
    [
        ("kubernetes", placed(), "tensorrt"),
        ("kubernetes", CPU_ONLY, "onnx"),
        ("kubernetes", placed(steps={"compile": {"gpus_per_process": 0}}), "onnx"),
        ("kubernetes", placed(steps={"infer": {"gpus_per_process": 0}}), "onnx"),
        ("kubernetes", placed(steps={"efficiency": {"gpus_per_process": 0}}), "onnx"),
        ("kubernetes", placed(steps={"report": {"gpus_per_process": 0}}), "tensorrt"),
        (
            "kubernetes",
            placed(gpus_per_process=0, steps={"others": {"gpus_per_process": 1}}),
            "tensorrt",
        ),
        (
            "kubernetes",
            placed(gpus_per_process=0, steps={"training": {"gpus_per_process": 1}}),
            "onnx",
        ),
        ("local", placed(), "onnx"),
    ],
)
def test_a_place_offers_tensorrt_where_all_pods_that_make_or_run_it_have_gpus(
    backend: str, placement: Placement, kind: str
) -> None:
    assert offered_engine(backend, placement) == kind


def test_the_engine_that_is_offered_counts_where_none_is_named(tmp_path: Path) -> None:
    config, whole = tmp_path / "compile.yaml", tmp_path / "chain.yaml"
    config.write_text("engine: onnx\n")
    whole.write_text("compile: {engine: onnx}\n")

    def single(**given: object) -> str:
        return spec_of(Step.COMPILE, CompileSpec, engine="tensorrt", **given).engine  # type: ignore[arg-type]

    def of_chain(**given: object) -> str:
        specs = chain_specs(engine="tensorrt", **given)  # type: ignore[arg-type]
        return specs.get(Step.COMPILE, CompileSpec).engine

    assert default_spec("compile", engine="tensorrt") == CompileSpec(engine="tensorrt")
    assert single() == of_chain() == of_chain(variant="demo") == "tensorrt"
    assert single(config=config) == of_chain(config=whole) == "onnx"
    assert single(settings=["engine=eager"]) == "eager"
    assert of_chain(settings=["compile.engine=eager"]) == "eager"
    assert single(flags={"engine": "eager"}) == "eager"


@pytest.mark.parametrize("step", ENGINE_STEPS)
def test_tensorrt_is_refused_where_the_pods_have_no_gpu(step: Step) -> None:
    check_place(step, "tensorrt", "kubernetes", placed())
    for kind in ("onnx", "eager", None):
        check_place(step, kind, "kubernetes", CPU_ONLY)
    with pytest.raises(SpecError) as raised:
        check_place(step, "tensorrt", "kubernetes", CPU_ONLY)
    assert str(raised.value) == (
        f"tensorrt engines need a GPU, and the pods of {step} have none: cluster.gpus_per_process "
        "is 0; give --engine onnx (a pipeline: --set compile.engine=onnx), or set "
        f"cluster.steps.{step}.gpus_per_process to 1"
    )


def test_tensorrt_is_refused_on_a_machine_without_a_gpu(devices: Path) -> None:
    with pytest.raises(SpecError) as raised:
        check_place(Step.COMPILE, "tensorrt", "local", placed())
    assert str(raised.value) == (
        "tensorrt engines need an NVIDIA GPU, and this machine has none; give --engine onnx (a "
        "pipeline: --set compile.engine=onnx), or run it with --backend kubernetes"
    )
    (devices / "nvidia0").touch()
    check_place(Step.COMPILE, "tensorrt", "local", placed())


def test_a_chain_is_refused_before_it_starts(tmp_path: Path) -> None:
    onnx, tensorrt = chain_specs(), chain_specs(engine="tensorrt")
    check_chain(tensorrt, "kubernetes", placed())
    check_chain(onnx, "kubernetes", CPU_ONLY)
    with pytest.raises(SpecError, match="no image with TensorRT for the pods of compile; "):
        check_chain(tensorrt, "kubernetes", placed(tensorrt_image=None))
    lacking = placed(steps={"infer": {"gpus_per_process": 0}})
    with pytest.raises(SpecError, match="the pods of infer have none"):
        check_chain(tensorrt, "kubernetes", lacking)
    check_chain(tensorrt, "kubernetes", lacking, done={Step.INFER})

    run, data = Run(FolderStore(tmp_path / "runs"), "first"), FolderStore(tmp_path / "data")
    pipeline = Pipeline(LocalBackend(tmp_path / "state"), run, data, tensorrt)
    with pytest.raises(SpecError, match="this machine has none"):
        pipeline.run()
    assert list(run.folder.list()) == []


def test_a_step_is_refused_before_anything_of_it_starts(tmp_path: Path) -> None:
    run, data = Run(FolderStore(tmp_path / "runs"), "first"), FolderStore(tmp_path / "data")
    run.claim(data=data.url)
    backend = LocalBackend(tmp_path / "state")
    task = Task(Step.INFER, InferSpec(), run.folder.folder("infer"), "infer", engine="tensorrt")

    with pytest.raises(SpecError, match="or run it with --backend kubernetes"):
        start_task(backend, run, task, placed(), data=data)

    assert (backend.tasks(run), run.read().steps) == ([], {})
