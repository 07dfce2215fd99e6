"""What the spec of an inference takes from storage: other runs' engines, validated thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hbseg.anatomy import BONES
from hbseg.config.specs import InferSpec
from hbseg.control.inference import pinned_inference
from hbseg.errors import ConflictError, HbsegError, NotFoundError, UsageError
from hbseg.runs.chain import Chosen, make_task
from hbseg.runs.results import EVALUATION, Evaluation, Interval, Scores
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import MARKER, read_marker, sha256_of, write_marker
from hbseg.storage.store import Store

CARD = {"batch_size": 8, "backend": "onnx", "device": "cpu", "height": 64, "fold": 0}


def done(folder: Store, **inputs: str) -> str:
    return write_marker(folder, step="x", spec_hash="x", inputs=inputs, outputs={}).digest


def add_engine(run: Run, *, key: str = "a", dataset: str = "0", **changes: object) -> None:
    folder = run.folder.folder(f"engine/{key}")
    folder.put("engine.json", json.dumps(CARD | changes).encode())
    stage = run.folder.folder("stage2")
    checkpoint = read_marker(stage).digest if stage.exists(MARKER) else done(stage)
    done(folder, checkpoint=checkpoint, dataset=dataset)


def new_run(folder: Path, name: str, **card: Any) -> Run:
    run = Run(FolderStore(folder / "runs"), name)
    run.claim(data=str(folder / "data"))
    add_engine(run, **card)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path, "main")


def evaluate(run: Run, thresholds: dict[str, float]) -> None:
    scores = Scores(dice=Interval(mean=0.9, low=0.8, high=0.95))
    evaluation = Evaluation(
        images=2,
        persons=1,
        scores=scores,
        bones=(),
        slices=(),
        thresholds=thresholds,
        dice_at_thresholds=0.91,
    )
    folder, data = run.folder.folder("valid"), evaluation.to_json()
    folder.put(EVALUATION, data)
    outputs = {EVALUATION: sha256_of(data)}
    inputs = {"engine": read_marker(run.folder.folder("engine/a")).digest}
    write_marker(folder, step="infer", spec_hash="x", inputs=inputs, outputs=outputs)


def test_engines_of_other_runs_are_inputs_of_the_task(run: Run, tmp_path: Path) -> None:
    others = [new_run(tmp_path, name) for name in ("second", "third")]
    data = FolderStore(tmp_path / "data")
    done(data.folder("versions/0123456789abcdef"))
    stage = "kind: TrainSpec\nstage: 2\ndataset: {version: 0123456789abcdef}\n"
    run.folder.put("stage2/spec.yaml", stage.encode())

    spec = pinned_inference(InferSpec(), run, others)
    task = make_task(run, data, Step.INFER, spec)

    assert spec.members == tuple(f"{other.folder.url}/engine/a" for other in others)
    assert [item.name for item in task.inputs] == ["dataset", "engine", "member1", "member2"]
    assert [item.folder.url for item in task.inputs[2:]] == list(spec.members)
    assert task.engine == "onnx"
    assert spec.digest() != pinned_inference(InferSpec(), run, others[::-1]).digest()

    write_marker(
        task.folder,
        step="infer",
        spec_hash=spec.digest(),
        inputs=task.input_digests(),
        outputs={},
    )
    assert task.is_done()
    write_marker(
        others[1].folder.folder("engine/a"), step="x", spec_hash="new", inputs={}, outputs={}
    )
    assert not task.is_done()


def test_an_engine_that_is_gone_is_refused(run: Run, tmp_path: Path) -> None:
    spec = InferSpec(members=(str(tmp_path / "gone"),))
    done(FolderStore(tmp_path / "data/versions/0123456789abcdef"))
    stage = "kind: TrainSpec\nstage: 2\ndataset: {version: 0123456789abcdef}\n"
    run.folder.put("stage2/spec.yaml", stage.encode())

    with pytest.raises(
        ConflictError, match=r"no finished member in .*/gone; submit again with --with RUN"
    ):
        make_task(run, FolderStore(tmp_path / "data"), Step.INFER, spec)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (
            {"batch_size": 4},
            "engine was compiled for batch size 4, asked for 8; "
            "run: hbseg submit-compile second --engine onnx --batch-size-eval 8",
        ),
        (
            {"backend": "tensorrt"},
            "engine was compiled for kind tensorrt, asked for onnx; "
            "run: hbseg submit-compile second --engine onnx --batch-size-eval 8",
        ),
        (
            {"height": 128},
            "the engine of run second takes 128 pixels a side, that of run main 64; "
            "average runs of one dataset.image_size",
        ),
        (
            {"view": "window"},
            "the engine of run second has view window, that of run main whole; "
            "average runs of one dataset.view",
        ),
        (
            {"classes": ["Ulna"]},
            "the engine of run second has other classes than that of run main; "
            "leave it out, or train second with this version of hbseg",
        ),
    ],
)
def test_an_engine_that_does_not_fit_is_refused(
    run: Run, tmp_path: Path, card: dict[str, object], message: str
) -> None:
    with pytest.raises(ConflictError) as raised:
        pinned_inference(InferSpec(), run, [new_run(tmp_path, "second", **card)])

    assert str(raised.value) == message


def test_a_run_that_is_unknown_without_engine_or_twice_is_refused(run: Run, tmp_path: Path) -> None:
    unknown = Run(FolderStore(tmp_path / "runs"), "nobody")
    empty = Run(FolderStore(tmp_path / "runs"), "empty")
    empty.claim(data=str(tmp_path / "data"))
    cases: list[tuple[list[Run], type[HbsegError], str]] = [
        ([unknown], NotFoundError, "no run nobody in .*; see: hbseg list"),
        ([empty], ConflictError, "no finished stage2; run: hbseg submit-train --stage 2 --run e"),
        ([run], UsageError, "run main is averaged with itself; name each run once"),
    ]
    for others, kind, message in cases:
        with pytest.raises(kind, match=message):
            pinned_inference(InferSpec(), run, others)


def test_an_engine_that_saw_the_held_out_fold_is_told_where_it_judges(
    run: Run, tmp_path: Path
) -> None:
    others, lines = [new_run(tmp_path, "second", fold=3)], list[str]()

    pinned_inference(InferSpec(), run, others, tell=lines.append)
    assert lines == []

    pinned_inference(InferSpec(mode="valid"), run, others, tell=lines.append)
    assert lines == [
        "warning: run second held out fold 3, not 0: it was trained on the pictures that judge it"
    ]


def test_an_engine_of_another_dataset_version_is_told_where_it_judges(
    run: Run, tmp_path: Path
) -> None:
    second, lines = new_run(tmp_path, "second"), list[str]()
    add_engine(second, dataset="1")

    pinned_inference(InferSpec(mode="valid"), run, [second], tell=lines.append)
    assert lines == [
        "warning: run second was trained on another dataset version than main: it may have seen "
        "the pictures that judge it"
    ]


def test_engines_of_other_runs_are_of_the_kind_that_was_asked_for(run: Run, tmp_path: Path) -> None:
    second = new_run(tmp_path, "second")
    for one in (run, second):
        add_engine(one, key="z", backend="eager")

    def member(engine: str | None) -> str:
        spec = pinned_inference(InferSpec(), run, [second], engine=engine)
        return spec.members[0].rpartition("/")[2]

    assert (member("onnx"), member("eager"), member(None)) == ("a", "z", "z")


def test_thresholds_of_another_engine_are_refused(run: Run) -> None:
    evaluate(run, {"Ulna": 0.4})
    add_engine(run, key="z", dataset="1")
    with pytest.raises(ConflictError) as raised:
        pinned_inference(InferSpec(), run, [], validated=True)
    assert str(raised.value) == (
        "the evaluation of run main is of another engine than engine/z; "
        "run: hbseg submit-infer main --mode valid"
    )


def test_thresholds_are_those_of_the_evaluation(run: Run) -> None:
    evaluate(run, {"Ulna": 0.4, "finger-1": 0.6})

    spec = pinned_inference(InferSpec(threshold=0.3), run, [], validated=True)

    assert spec.thresholds == {"Ulna": 0.4, "finger-1": 0.6}
    assert (spec.bone_thresholds[0], spec.bone_thresholds[-1]) == (0.6, 0.4)
    assert set(spec.bone_thresholds[1:-1]) == {0.3}
    assert len(spec.bone_thresholds) == len(BONES)


def test_without_an_evaluation_the_command_that_makes_one_is_named(run: Run) -> None:
    hint = "run: hbseg submit-infer main --mode valid"
    with pytest.raises(ConflictError, match=f"run main has no evaluation; {hint}"):
        pinned_inference(InferSpec(), run, [], validated=True)

    evaluate(run, {"Ulna": 0.4})
    run.folder.put(f"valid/{EVALUATION}", b"{}")
    with pytest.raises(ConflictError, match=f"evaluation.json is damaged.*; {hint}"):
        pinned_inference(InferSpec(), run, [], validated=True)


def test_the_card_does_not_decide_which_engine_is_equal() -> None:
    assert Chosen("engine/a", "onnx", {"fold": 1}) == Chosen("engine/a", "onnx")
