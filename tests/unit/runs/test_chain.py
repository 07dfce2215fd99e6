"""Tasks from the table of steps: their inputs, their folders, the engine that they choose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
from hbseg.control.specs import chain_specs
from hbseg.data.places import version_folder
from hbseg.errors import ConflictError, InvalidInput, VersionError
from hbseg.runs.chain import chain, find_engine, make_task, pictures_key
from hbseg.runs.chain_specs import ChainSpecs
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import Marker, write_marker
from hbseg.storage.store import Store

VERSION = "0123456789abcdef"


@pytest.fixture
def data(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that began with stage 2, from a checkpoint outside of it."""
    run = Run(FolderStore(tmp_path / "runs"), "main")
    spec = TrainSpec.from_mapping(
        {"stage": 2, "init_from": str(tmp_path / "other"), "dataset": {"version": VERSION}},
        source="x",
    )
    run.folder.put("stage2/spec.yaml", spec.to_yaml().encode())
    done(run, "stage2")
    return run


def done(run: Run, prefix: str, **inputs: str) -> Marker:
    folder = run.folder.folder(prefix)
    return write_marker(folder, step="x", spec_hash=prefix, inputs=inputs, outputs={})


def add_engine(run: Run, key: str, *, checkpoint: str, **card: object) -> None:
    run.folder.put(f"engine/{key}/engine.json", json.dumps(card).encode())
    done(run, f"engine/{key}", checkpoint=checkpoint)


def inputs(run: Run, data: Store) -> list[str]:
    return [item.name for item in make_task(run, data, Step.REPORT, ReportSpec()).inputs]


def test_a_run_that_began_with_stage_2_has_a_report(run: Run, data: Store) -> None:
    assert inputs(run, data) == ["dataset", "stage2"]

    for prefix in ("valid", "infer", "efficiency/0a1b2c3d4e5f"):
        done(run, prefix)

    assert inputs(run, data) == ["dataset", "stage2", "valid", "infer", "efficiency"]


def test_an_input_that_appears_makes_a_report_out_of_date(run: Run, data: Store) -> None:
    task = make_task(run, data, Step.REPORT, ReportSpec())
    done(run, "infer")

    assert make_task(run, data, Step.REPORT, ReportSpec()).inputs != task.inputs


def test_an_input_that_is_missing_names_the_command_that_makes_it(run: Run, data: Store) -> None:
    fresh = Run(FolderStore(Path(data.url)), "fresh")
    cases = {
        Step.STAGE2: TrainSpec.from_mapping(
            {"stage": 2, "dataset": {"version": VERSION}}, source="x"
        ),
        Step.COMPILE: CompileSpec(),
        Step.INFER: InferSpec(),
    }
    hints = {}
    for step, spec in cases.items():
        with pytest.raises(ConflictError) as error:
            make_task(fresh, data, step, spec)
        hints[step] = error.value.hint

    assert hints == {
        Step.STAGE2: "run: hbseg submit-train --stage 1 --run fresh, or give --ckpt URL",
        Step.COMPILE: "run: hbseg submit-train --stage 2 --run fresh",
        Step.INFER: "run: hbseg submit-train --stage 1 --run fresh",
    }
    with pytest.raises(ConflictError, match="run main has no engine of its stage 2"):
        make_task(run, data, Step.INFER, InferSpec())


def test_masks_of_a_single_picture_have_a_folder_of_their_own(
    run: Run, data: Store, tmp_path: Path
) -> None:
    add_engine(run, "a", checkpoint=done(run, "stage2").digest, batch_size=8)
    pictures = FolderStore(tmp_path / "pictures")

    def prefix(url: str) -> str:
        return make_task(run, data, Step.INFER, InferSpec(mode="images", images=url)).prefix

    pictures.put("a.png", b"a")
    alone = prefix(f"{pictures.url}/a.png")
    assert alone == prefix(pictures.url)
    pictures.put("b.png", b"b")
    assert prefix(pictures.url) != alone == prefix(f"{pictures.url}/a.png")


def test_pictures_of_one_name_are_refused_at_submit(run: Run, data: Store, tmp_path: Path) -> None:
    add_engine(run, "a", checkpoint=done(run, "stage2").digest, batch_size=8)
    pictures = FolderStore(tmp_path / "pictures")
    for key in ("x/a.png", "y/a.png"):
        pictures.put(key, b"a")

    with pytest.raises(
        InvalidInput, match=r"two pictures are called a\.png: x/a\.png and y/a\.png"
    ):
        make_task(run, data, Step.INFER, InferSpec(mode="images", images=pictures.url))


def test_a_dataset_version_that_is_none_is_refused(run: Run, data: Store) -> None:
    spec = TrainSpec.from_mapping({"model": {}, "dataset": {"version": "../x"}}, source="x")

    with pytest.raises(InvalidInput, match="expected 16 hexadecimal digits"):
        make_task(run, data, Step.STAGE1, spec)


def test_an_engine_is_found_by_batch_size_kind_device_and_precision(run: Run) -> None:
    checkpoint = done(run, "stage2").digest
    card = {"batch_size": 8, "backend": "onnx", "device": "cpu", "precision": "fp32"}
    add_engine(run, "a", checkpoint=checkpoint, **card)
    add_engine(run, "b", checkpoint=checkpoint, **{**card, "batch_size": 1})
    for key, device in (("c", "NVIDIA L4"), ("d", "NVIDIA H200")):
        rt = {**card, "backend": "tensorrt", "device": device}
        add_engine(run, key, checkpoint=checkpoint, **rt)
    add_engine(run, "e", checkpoint="older", **{**card, "batch_size": 4})
    half = {**card, "backend": "tensorrt", "device": "NVIDIA L4", "precision": "fp16"}
    add_engine(run, "f", checkpoint=checkpoint, **half)

    assert find_engine(run, 8, kind="onnx").prefix == "engine/a"
    assert find_engine(run, 1).prefix == "engine/b"
    found = find_engine(run, 8, kind="tensorrt", device="NVIDIA L4", precision="fp32")
    assert (found.prefix, found.engine) == ("engine/c", "tensorrt")
    assert find_engine(run, 8, precision="fp16").prefix == "engine/f"


def test_a_step_runs_the_latest_engine_or_that_of_a_kind(run: Run, data: Store) -> None:
    checkpoint = done(run, "stage2").digest
    for key, kind in (("a", "onnx"), ("b", "eager"), ("c", "tensorrt")):
        add_engine(run, key, checkpoint=checkpoint, batch_size=8, backend=kind, device="cpu")

    def chosen(kind: str | None) -> tuple[str, str | None]:
        task = make_task(run, data, Step.INFER, InferSpec(), engine=kind)
        [folder] = [item.folder for item in task.inputs if item.name == "engine"]
        return folder.url.rpartition("/")[2], task.engine

    with pytest.raises(ConflictError, match="for device cpu, asked for NVIDIA L4"):
        make_task(run, data, Step.INFER, InferSpec(), device="NVIDIA L4")
    assert chosen(None) == ("c", "tensorrt")
    assert chosen("eager") == ("b", "eager")
    assert chosen("onnx") == ("a", "onnx")


def test_the_second_engine_of_a_step_is_of_the_kind_of_the_first(run: Run, data: Store) -> None:
    checkpoint = done(run, "stage2").digest
    onnx = {"batch_size": 8, "backend": "onnx", "device": "cpu"}
    add_engine(run, "a", checkpoint=checkpoint, **onnx)
    add_engine(run, "b", checkpoint=checkpoint, **{**onnx, "backend": "tensorrt"})
    add_engine(run, "c", checkpoint=checkpoint, **{**onnx, "batch_size": 1})

    task = make_task(run, data, Step.EFFICIENCY, EfficiencySpec())
    assert [(item.name, item.folder.url.rpartition("/")[2]) for item in task.inputs][:2] == [
        ("engine", "c"),
        ("throughput_engine", "a"),
    ]
    assert (task.prefix, task.engine) == ("efficiency/c", "onnx")
    with pytest.raises(ConflictError) as error:
        make_task(run, data, Step.EFFICIENCY, EfficiencySpec(throughput_batch_size=4))
    assert error.value.hint == "run: hbseg submit-compile main --engine onnx --batch-size-eval 4"


def test_the_second_engine_of_a_step_is_for_the_gpu_and_precision_of_the_first(
    run: Run, data: Store
) -> None:
    checkpoint = done(run, "stage2").digest
    l4, half, h200 = ("NVIDIA L4", "fp32"), ("NVIDIA L4", "fp16"), ("NVIDIA H200", "fp32")
    for size, order in ((1, (l4, half, h200)), (8, (h200, half, l4))):
        for letter, (device, precision) in zip("abc", order, strict=True):
            card = {"batch_size": size, "device": device, "precision": precision}
            add_engine(run, f"{letter}{size}", checkpoint=checkpoint, backend="tensorrt", **card)

    spec = EfficiencySpec(throughput_batch_size=8)

    def chosen(**wanted: str) -> list[str]:
        task = make_task(run, data, Step.EFFICIENCY, spec, **wanted)  # type: ignore[arg-type]
        return [item.folder.url.rpartition("/")[2] for item in task.inputs][:2]

    assert chosen() == ["c1", "a8"]
    assert chosen(device="NVIDIA L4", precision="fp32") == ["a1", "c8"]
    assert chosen(precision="fp16") == ["b1", "b8"]
    run.folder.delete("engine/b8/_SUCCESS")
    with pytest.raises(ConflictError) as error:
        chosen(precision="fp16")
    flags = "--tensorrt-device 'NVIDIA L4' --batch-size-eval 8 --precision fp16"
    assert error.value.hint == f"run: hbseg submit-compile main --engine tensorrt {flags}"


def test_throughput_is_measured_at_the_run_s_latest_larger_batch_size(
    run: Run, data: Store
) -> None:
    checkpoint = done(run, "stage2").digest

    def measured(batch_size: int = 1, engine: str | None = None) -> Spec:
        spec = EfficiencySpec(batch_size=batch_size)
        return make_task(run, data, Step.EFFICIENCY, spec, engine=engine).spec

    add_engine(run, "a", checkpoint=checkpoint, batch_size=1, backend="eager", device="cpu")
    assert measured() == EfficiencySpec(throughput_batch_size=1)
    add_engine(run, "b", checkpoint=checkpoint, batch_size=8, backend="eager", device="cpu")
    add_engine(run, "c", checkpoint=checkpoint, batch_size=16, backend="eager", device="cpu")
    assert measured() == EfficiencySpec(throughput_batch_size=16)
    assert measured(16) == EfficiencySpec(batch_size=16, throughput_batch_size=16)
    add_engine(run, "d", checkpoint=checkpoint, batch_size=4, backend="onnx", device="cpu")
    add_engine(run, "e", checkpoint=checkpoint, batch_size=1, backend="onnx", device="cpu")
    assert measured() == EfficiencySpec(throughput_batch_size=4)
    assert measured(engine="eager") == EfficiencySpec(throughput_batch_size=16)


def test_a_chain_with_another_batch_size_measures_that_one() -> None:
    specs = chain_specs(settings=["compile.batch_size=16", "infer.batch_size=16"])
    sizes = [dict(spec)["batch_size"] for _, spec in specs.of_step(Step.COMPILE)]
    assert sizes == [16, 1]
    (spec,) = (spec for _, spec in specs.of_step(Step.EFFICIENCY))
    assert dict(spec)["throughput_batch_size"] == 16


@pytest.mark.parametrize(
    ("wanted", "message", "flags"),
    [
        (
            {"batch_size": 4},
            "engine was compiled for batch size 1, 8, 16, asked for 4",
            "--batch-size-eval 4",
        ),
        (
            {"batch_size": 8, "kind": "tensorrt"},
            "engine was compiled for kind onnx, asked for tensorrt",
            "--engine tensorrt --batch-size-eval 8",
        ),
        (
            {"batch_size": 8, "kind": "onnx", "device": "NVIDIA L4"},
            "engine was compiled for device cpu, asked for NVIDIA L4",
            "--engine onnx --tensorrt-device 'NVIDIA L4' --batch-size-eval 8",
        ),
    ],
)
def test_an_engine_of_another_make_is_refused_with_the_command_for_the_right_one(
    run: Run, wanted: dict[str, object], message: str, flags: str
) -> None:
    checkpoint = done(run, "stage2").digest
    for key, batch_size in (("a", 16), ("b", 8), ("c", 1)):
        card = {"batch_size": batch_size, "backend": "onnx", "device": "cpu"}
        add_engine(run, key, checkpoint=checkpoint, **card)

    with pytest.raises(ConflictError) as error:
        find_engine(run, **wanted)  # type: ignore[arg-type]

    assert error.value.message == message
    assert error.value.hint == f"run: hbseg submit-compile main {flags}"


def test_an_engine_of_a_kind_that_this_version_does_not_know_is_refused(run: Run) -> None:
    card = {"batch_size": 8, "backend": "openvino", "device": "cpu"}
    add_engine(run, "a", checkpoint=done(run, "stage2").digest, **card)

    with pytest.raises(ConflictError) as error:
        find_engine(run, 8)

    assert error.value.message == (
        "engine/a of run main is of kind openvino, which this version does not know"
    )
    assert error.value.hint == "run: hbseg submit-compile main --batch-size-eval 8"


@pytest.mark.parametrize("name", ["engine.json", "_SUCCESS"])
def test_an_engine_of_a_newer_version_is_told_and_not_passed_over(run: Run, name: str) -> None:
    add_engine(run, "a", checkpoint=done(run, "stage2").digest, batch_size=8)
    run.folder.put(f"engine/a/{name}", b'{"apiVersion": "hbseg/v2"}')

    with pytest.raises(VersionError, match=f"engine/a/{name} was written as hbseg/v2"):
        find_engine(run, 8)


def test_only_the_steps_that_make_or_run_an_engine_need_what_its_kind_needs(
    run: Run, data: Store
) -> None:
    dataset = version_folder(data, VERSION)
    write_marker(dataset, step="prepare", spec_hash="0", inputs={}, outputs={})
    training = {"dataset": {"version": VERSION}}
    stage1 = TrainSpec.from_mapping({"model": {}, **training}, source="x")
    stage2 = TrainSpec.from_mapping({"stage": 2, **training}, source="x")
    specs = ChainSpecs(
        {
            Step.STAGE1: stage1,
            Step.STAGE2: stage2,
            Step.COMPILE: CompileSpec(engine="tensorrt", device="NVIDIA L4"),
            Step.INFER: InferSpec(),
            Step.EFFICIENCY: EfficiencySpec(),
            Step.REPORT: ReportSpec(),
        }
    )

    kinds = {}
    for task in chain(run, data, specs):
        kinds[task.step] = task.engine
        done(run, task.prefix)

    of_engines = (Step.COMPILE, Step.INFER, Step.EFFICIENCY)
    assert {step for step, kind in kinds.items() if kind == "tensorrt"} == set(of_engines)
    assert {kind for step, kind in kinds.items() if step not in of_engines} == {None}


def test_the_chain_makes_an_engine_for_each_batch_size_and_both_kinds_of_masks() -> None:
    specs = ChainSpecs(
        {
            Step.STAGE1: TrainSpec(model=ModelBlock()),
            Step.STAGE2: TrainSpec(stage=2),
            Step.COMPILE: CompileSpec(batch_size=99),
            Step.INFER: InferSpec(mode="valid", batch_size=8),
            Step.EFFICIENCY: EfficiencySpec(),
            Step.REPORT: ReportSpec(),
        }
    )

    engines = [spec for _, spec in specs.of_step(Step.COMPILE)]
    masks = [(folder.name, spec) for folder, spec in specs.of_step(Step.INFER)]

    assert engines == [CompileSpec(batch_size=8), CompileSpec(batch_size=1)]
    (efficiency,) = (spec for _, spec in specs.of_step(Step.EFFICIENCY))
    assert efficiency == EfficiencySpec(throughput_batch_size=8)
    further = specs.replaced({Step.EFFICIENCY: EfficiencySpec(throughput_batch_size=16)})
    sizes = [dict(spec)["batch_size"] for _, spec in further.of_step(Step.COMPILE)]
    assert sizes == [8, 1, 16]
    assert masks == [("infer", InferSpec()), ("valid", InferSpec(mode="valid"))]
    with pytest.raises(TypeError, match="the spec of report is a ReportSpec"):
        specs.get(Step.REPORT, PrepareSpec)


def test_pictures_that_are_read_in_another_way_have_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = FolderStore(tmp_path)
    pictures.put("a.png", b"x")
    before = pictures_key(pictures)
    monkeypatch.setattr("hbseg.data.formats.READING", 99)
    assert pictures_key(pictures) != before
