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
from hbseg.errors import ContractError, InvalidInput, Terminated
from hbseg.ml.checkpoint import load_model
from hbseg.ml.engines.compile import compile_engine
from hbseg.ml.engines.onnx_export import export_onnx
from hbseg.ml.engines.reference import held_out_fold, reference_pictures
from hbseg.runs.steps import Step
from hbseg.storage.markers import read_marker, sha256_of_file
from hbseg_jobs import compile as compile_job
from tests.engines import BATCH, SIZE, grey

from .conftest import FOLD, VERSION, Chain


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


def test_an_engine_beyond_the_accepted_difference_is_refused(chain: Chain, tmp_path: Path) -> None:
    spec = CompileSpec(batch_size=1, largest_difference=1e-12)
    with pytest.raises(ContractError, match=r"accepted for fp32 is 1e-12") as raised:
        compile_engine(spec, load_model(chain.stage), [grey(0)], tmp_path)
    assert raised.value.step_exit_code == 76


def test_the_gate_looks_at_pictures_that_were_held_out(chain: Chain) -> None:
    dataset = open_version(chain.data, VERSION)
    assert held_out_fold(chain.stage) == FOLD
    held_out = [dataset.picture(s) for s in dataset.samples("validation", FOLD)]
    assert len(held_out) == 5
    chosen = reference_pictures(dataset, FOLD)
    assert len(chosen) == 4
    assert all(any(np.array_equal(one, other) for other in held_out) for one in chosen)


def test_the_step_lists_the_engine_and_the_digests_that_it_read(chain: Chain) -> None:
    marker = read_marker(chain.engine)
    assert marker.step == "compile"
    assert set(marker.outputs) == {"model.onnx"}
    assert set(marker.records) == {"engine.json"}
    assert marker.inputs["checkpoint"] == read_marker(chain.stage).digest
    assert marker.inputs["dataset"] == read_marker(chain.version).digest
    assert set(marker.metrics) == {
        *("largest_near_decision", "flipped_share", "dice", "smallest_dice"),
    }


def test_the_step_refuses_the_spec_of_another_step(chain: Chain) -> None:
    context = chain.context(Step.COMPILE, CompileSpec(), "engine/other", work="other")
    wrong = replace(context, task=replace(context.task, spec=InferSpec()))
    with pytest.raises(InvalidInput, match="was given InferSpec, expected CompileSpec"):
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
