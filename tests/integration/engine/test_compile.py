from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hbseg.config.specs import CompileSpec, InferSpec
from hbseg.data.dataset import open_version
from hbseg.errors import ContractError, InvalidInput, SpecError, Terminated
from hbseg.ml.checkpoint import load_model
from hbseg.ml.engines import onnx_export
from hbseg.ml.engines.card import EngineCard, Images, Logits
from hbseg.ml.engines.compile import (
    agreement_of,
    check_agreement,
    compile_engine,
    eager_logits,
    held_out_fold,
    reference_pictures,
)
from hbseg.ml.engines.onnx_export import export_onnx
from hbseg.runs.steps import Step
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import read_marker, sha256_of_file
from hbseg_jobs import compile as compile_job

from .conftest import BATCH, FOLD, SIZE, VERSION, Chain, grey


class Spoiled:
    """The network itself with something wrong in one bone's logits."""

    def __init__(self, chain: Chain, bone: int, offset: float) -> None:
        self.model = load_model(chain.stage).model
        self.card = EngineCard.from_text(chain.engine.get("engine.json"), source="engine.json")
        self.bone, self.offset = bone, offset

    def logits(self, images_bhw: Images) -> Logits:
        assert len(images_bhw) <= self.card.batch_size
        logits = eager_logits(self.model, images_bhw).copy()
        logits[-1, self.bone, 5, 7] += self.offset
        return logits


def test_equal_weights_give_equal_bytes(chain: Chain, tmp_path: Path) -> None:
    path = tmp_path / "again.onnx"
    export_onnx(load_model(chain.stage).model, path, batch_size=BATCH, size=SIZE)
    assert sha256_of_file(path) == read_marker(chain.engine).outputs["model.onnx"]
    assert [file.name for file in tmp_path.iterdir()] == ["again.onnx"]


def test_the_model_tells_nothing_of_the_machine_that_compiled_it(chain: Chain) -> None:
    data = chain.engine.get("model.onnx")
    assert b"site-packages" not in data
    assert b"stack_trace" not in data
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)


def test_sigterm_in_the_exporter_ends_the_step_and_is_no_bug(
    tmp_path: Path,
) -> None:
    def terminated(number: int, frame: object) -> None:
        raise Terminated("ended by SIGTERM")

    class Network(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            signal.raise_signal(signal.SIGTERM)
            return images * 2

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        with pytest.raises(Terminated, match="ended by SIGTERM"):
            export_onnx(Network().eval(), tmp_path / "model.onnx", batch_size=1, size=SIZE)
        assert signal.getsignal(signal.SIGTERM) is terminated
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not list(tmp_path.iterdir())


def test_weights_too_large_for_one_file_are_refused(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MAX_ONNX", 1000)
    model = load_model(chain.stage).model
    with pytest.raises(SpecError, match="bytes, an ONNX file holds 1,000 at most; choose a small"):
        export_onnx(model, tmp_path / "model.onnx", batch_size=1, size=SIZE)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (CompileSpec(precision="fp16"), "precision fp16: onnx engines are fp32; set precision="),
        (CompileSpec(precision="bf16"), "precision bf16: onnx engines are fp32; set precision="),
        (CompileSpec(device="NVIDIA L4"), "device NVIDIA L4: onnx engines run on any CPU; leave"),
        (
            CompileSpec(engine="tensorrt"),
            "engine tensorrt: this version compiles onnx engines only; use --engine onnx",
        ),
    ],
)
def test_what_cannot_be_compiled_is_refused(
    chain: Chain, tmp_path: Path, spec: CompileSpec, sentence: str
) -> None:
    with pytest.raises(SpecError) as raised:
        compile_engine(spec, load_model(chain.stage), [grey(0)], tmp_path)
    assert sentence in str(raised.value)
    assert raised.value.step_exit_code == 78
    assert not list(tmp_path.iterdir())


def test_an_engine_beyond_the_accepted_difference_is_refused(chain: Chain, tmp_path: Path) -> None:
    spec = CompileSpec(batch_size=1, largest_difference=1e-12)
    with pytest.raises(ContractError, match=r"accepted is 1e-12") as raised:
        compile_engine(spec, load_model(chain.stage), [grey(0)], tmp_path)
    assert raised.value.step_exit_code == 76


def test_the_gate_names_the_bone_and_the_figures(chain: Chain) -> None:
    engine = Spoiled(chain, bone=19, offset=0.75)
    images = np.stack([grey(seed, SIZE, SIZE) for seed in range(6)])
    agreement = agreement_of(engine.model, engine, images)
    assert agreement.bone == "Trapezium"
    assert agreement.largest_difference == pytest.approx(0.75, abs=1e-4)
    assert agreement.pictures == 6
    check_agreement(agreement, accepted=0.8)
    with pytest.raises(ContractError) as raised:
        check_agreement(agreement, accepted=0.05)
    assert str(raised.value) == (
        "engine and network differ by 0.75 in the logits of Trapezium, accepted is 0.05 (Dice of "
        f"their masks: {agreement.dice:.4f}); accept more with --set largest_difference=X, or "
        "compile with precision=fp32"
    )


@pytest.mark.parametrize("offset", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_do_not_pass_the_gate(chain: Chain, offset: float) -> None:
    engine = Spoiled(chain, bone=28, offset=offset)
    agreement = agreement_of(engine.model, engine, grey(0, SIZE, SIZE)[None])
    assert agreement.bone == "Ulna"
    with pytest.raises(ContractError, match="in the logits of Ulna"):
        check_agreement(agreement, accepted=1e6)


def test_the_dice_of_the_gate_is_that_of_the_masks(chain: Chain) -> None:
    engine = Spoiled(chain, bone=3, offset=0.0)
    image = grey(1, SIZE, SIZE)[None]
    assert agreement_of(engine.model, engine, image).dice == pytest.approx(1.0)
    plane = eager_logits(engine.model, image)[0, 3]
    area = int((plane > 0).sum())
    engine.offset = -1000.0 if plane[5, 7] > 0 else 1000.0
    other = area + (1 if plane[5, 7] <= 0 else -1)
    expected = (28 + 2 * min(area, other) / (area + other)) / 29
    assert agreement_of(engine.model, engine, image).dice == pytest.approx(expected, abs=1e-6)


def test_the_gate_looks_at_pictures_that_were_held_out(chain: Chain) -> None:
    dataset = open_version(chain.data, VERSION)
    assert held_out_fold(chain.stage) == FOLD
    held_out = [dataset.picture(s) for s in dataset.samples("validation", FOLD)]
    assert len(held_out) == 5
    chosen = reference_pictures(dataset, FOLD)
    assert len(chosen) == 4
    assert all(any(np.array_equal(one, other) for other in held_out) for one in chosen)


def test_a_stage_without_its_spec_is_refused(chain: Chain, tmp_path: Path) -> None:
    stage = FolderStore(tmp_path)
    marker = read_marker(chain.stage)
    stage.put("_SUCCESS", marker.model_copy(update={"outputs": {}}).to_json())
    with pytest.raises(ContractError, match=r"lists no spec\.yaml"):
        held_out_fold(stage)
    stage.put("_SUCCESS", marker.to_json())
    stage.put("spec.yaml", b"kind: TrainSpec")
    with pytest.raises(ContractError, match=r"spec\.yaml is damaged"):
        held_out_fold(stage)


def test_the_step_lists_the_engine_and_the_digests_that_it_read(chain: Chain) -> None:
    marker = read_marker(chain.engine)
    assert marker.step == "compile"
    assert set(marker.outputs) == {"model.onnx"}
    assert set(marker.records) == {"engine.json"}
    assert marker.inputs["checkpoint"] == read_marker(chain.stage).digest
    assert marker.inputs["dataset"] == read_marker(chain.version).digest
    assert set(marker.metrics) == {"largest_difference", "dice"}


def test_the_step_refuses_the_spec_of_another_step(chain: Chain) -> None:
    context = chain.context(Step.COMPILE, CompileSpec(), "engine/other", work="other")
    wrong = replace(context, task=replace(context.task, spec=InferSpec()))
    with pytest.raises(InvalidInput, match="step compile was given a InferSpec, expected a Comp"):
        compile_job.work(wrong)


def test_the_entry_compiles_without_a_word_of_the_exporter(chain: Chain, tmp_path: Path) -> None:
    spec = CompileSpec(batch_size=1)
    path = tmp_path / "spec.yaml"
    path.write_text(spec.to_yaml())
    arguments = {
        "--step": "compile",
        "--spec": path,
        "--spec-hash": spec.digest(),
        "--run-name": "tiny",
        "--runs": chain.runs.url,
        "--data": chain.data.url,
        "--prefix": "engine/entry",
        "--work": tmp_path / "work",
    }
    options = [str(part) for pair in arguments.items() for part in pair]
    inputs = [f"checkpoint={chain.stage.url}", f"dataset={chain.version.url}"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "hbseg_jobs.compile", *options]
        + [part for item in inputs for part in ("--input", item)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert chain.run.folder.folder("engine/entry").exists("_SUCCESS")
