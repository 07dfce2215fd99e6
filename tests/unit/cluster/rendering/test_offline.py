from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hbseg.cluster.rendering.offline import UNRESOLVED, offline_call
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
from hbseg.errors import InvalidInput
from hbseg.runs.chain import make_task
from hbseg.runs.run import Run
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step, stage_step
from hbseg.runs.task import Task
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import Marker, write_marker
from hbseg.storage.opening import canonical_url
from hbseg.storage.store import Store

VERSION = "0123456789abcdef"
KEY = "0a1b2c3d4e5f"
STAGE1 = TrainSpec.from_mapping({"model": {}, "dataset": {"version": VERSION}}, source="x")
STAGE2 = TrainSpec.from_mapping({"stage": 2, "dataset": {"version": VERSION}}, source="x")


@pytest.fixture
def data(tmp_path: Path) -> Store:
    store = FolderStore(tmp_path / "data")
    done(store.folder(f"versions/{VERSION}"), "prepare")
    return store


@pytest.fixture
def run(tmp_path: Path, data: Store) -> Run:
    """A run with all that its later steps ask for, engines and measurements included."""
    run = Run(FolderStore(tmp_path / "runs"), "main")
    for name in ("stage1", "stage2"):
        run.folder.put(f"{name}/spec.yaml", STAGE2.to_yaml().encode())
    done(run.folder.folder("stage1"), "stage1")
    checkpoint = done(run.folder.folder("stage2"), "stage2").digest
    engine = run.folder.folder(f"engine/{KEY}")
    engine.put("engine.json", json.dumps({"batch_size": 8}).encode())
    done(engine, "compile", checkpoint=checkpoint)
    for name in ("infer", "valid", f"efficiency/{KEY}"):
        done(run.folder.folder(name), name.partition("/")[0])
    return run


def done(folder: Store, step: str, **inputs: str) -> Marker:
    return write_marker(folder, step=step, spec_hash="x", inputs=inputs, outputs={})


def outlined(run: Run, data: Store, step: Step, spec: Spec, **more: Any) -> StepCall:
    runs = run.folder.url.removesuffix("/main")
    return offline_call("main", step, spec, runs=runs, data=data.url, **more).call


@pytest.mark.parametrize("spec", [STAGE1, STAGE2], ids=["stage1", "stage2"])
def test_a_training_of_a_named_version_is_known_without_storage(
    run: Run, data: Store, spec: TrainSpec
) -> None:
    task = make_task(run, data, stage_step(spec.stage), spec)

    assert outlined(run, data, task.step, spec) == StepCall.of(run, task, data=data.url)


def test_a_checkpoint_from_elsewhere_is_the_input(run: Run, data: Store, tmp_path: Path) -> None:
    done(FolderStore(tmp_path / "other"), "stage1")
    spec = STAGE2.model_copy(update={"init_from": f"{tmp_path}/other/"})

    expected = StepCall.of(run, make_task(run, data, Step.STAGE2, spec), data=data.url)
    assert outlined(run, data, Step.STAGE2, spec) == expected


def test_engines_of_other_runs_are_inputs(run: Run, data: Store, tmp_path: Path) -> None:
    spec = InferSpec(members=("s3://runs/second/engine/0a", f"{tmp_path}/third/engine/0b/"))

    inputs = outlined(run, data, Step.INFER, spec).inputs

    assert list(inputs) == ["engine", "member1", "member2"]
    assert inputs["member1"] == "s3://runs/second/engine/0a"
    assert inputs["member2"] == f"{tmp_path}/third/engine/0b"


def test_a_prepare_is_known_without_storage(run: Run, data: Store, tmp_path: Path) -> None:
    raw = FolderStore(tmp_path / "raw")
    task = make_task(run, data, Step.PREPARE, PrepareSpec(), raw=raw, skip_bad=True)

    call = outlined(run, data, Step.PREPARE, PrepareSpec(), raw=raw.url, skip_bad=True)
    assert call == StepCall.of(run, task, data=data.url)


def later_tasks(run: Run, data: Store, pictures: Store) -> list[Task]:
    images = InferSpec(mode="images", images=pictures.url)
    specs: list[tuple[Step, Spec]] = [
        (Step.COMPILE, CompileSpec()),
        (Step.INFER, InferSpec()),
        (Step.INFER, InferSpec(mode="valid")),
        (Step.INFER, images),
        (Step.EFFICIENCY, EfficiencySpec(batch_size=8)),
        (Step.REPORT, ReportSpec()),
    ]
    return [make_task(run, data, step, spec) for step, spec in specs]


def test_a_later_step_is_known_but_for_keys_and_the_datasets_version(
    run: Run, data: Store, tmp_path: Path
) -> None:
    pictures = FolderStore(tmp_path / "pictures")
    pictures.put("a.png", b"x")

    for task in later_tasks(run, data, pictures):
        whole = StepCall.of(run, task, data=data.url)
        call = outlined(run, data, task.step, task.spec)
        key = whole.prefix.partition("/")[2] or KEY

        assert call.prefix == whole.prefix.replace(key, UNRESOLVED)
        inputs = {n: u.replace(KEY, UNRESOLVED) for n, u in whole.inputs.items()}
        assert inputs.pop("dataset") == f"{data.url}/versions/{VERSION}"
        assert call.inputs == inputs
        assert (call.runs, call.data, call.spec) == (whole.runs, whole.data, whole.spec)


def test_what_is_open_is_said() -> None:
    def sentences(step: Step, spec: Spec) -> str:
        return " ".join(offline_call("main", step, spec, runs="s3://a", data="s3://b").open)

    assert sentences(Step.STAGE1, STAGE1) == ""
    assert sentences(Step.PREPARE, PrepareSpec()) == ""
    assert "dataset.version is not set" in sentences(Step.STAGE1, TrainSpec(model=ModelBlock()))
    assert "engine/unresolved" in sentences(Step.COMPILE, CompileSpec())
    assert "dataset" in sentences(Step.COMPILE, CompileSpec())
    assert "efficiency/unresolved and engine/unresolved" in sentences(
        Step.EFFICIENCY, EfficiencySpec()
    )
    assert "throughput_batch_size is not set" in sentences(Step.EFFICIENCY, EfficiencySpec())
    assert "throughput" not in sentences(Step.EFFICIENCY, EfficiencySpec(throughput_batch_size=2))
    assert "efficiency/unresolved" in sentences(Step.REPORT, ReportSpec())


def test_manifests_name_a_batch_size_that_only_the_runs_engines_know() -> None:
    found = offline_call("main", Step.EFFICIENCY, EfficiencySpec(), runs="s3://a", data="s3://b")
    assert found.call.spec == EfficiencySpec(throughput_batch_size=InferSpec().batch_size)


def test_a_url_is_written_as_its_store_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert canonical_url("s3://team//runs/") == "s3://team/runs"
    assert canonical_url("s3://team/") == "s3://team"
    assert canonical_url("./a/../b/") == FolderStore(Path("b")).url
    for url in ("s3://", "gs://team", ""):
        with pytest.raises(InvalidInput):
            canonical_url(url)
