"""An engine's libraries are loaded only where an engine of its kind is compiled or run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from hbseg.config.specs import CompileSpec, InferSpec, Spec
from hbseg.ml.engines.kinds import KINDS
from hbseg.runs.steps import Step
from hbseg_jobs import compile as compile_job
from hbseg_jobs import infer as infer_job
from tests.engines import BATCH

from .conftest import Chain

CHECKOUT = Path(__file__).parents[3]
LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "torch")
REPORT = f"""
import sys
print(*(name for name in {LIBRARIES} if name in sys.modules))
"""

SECOND_KIND = """
from pathlib import Path
from hbseg.config.specs import CompileSpec
from hbseg.ml.engines.compile import compile_engine
from hbseg.ml.engines.kinds import KINDS
from hbseg.ml.engines.opening import open_engine
from hbseg.storage.folder import FolderStore
from tests import linear_engine
from tests.engines import grey, loaded_model, write_card

KINDS["tensorrt"] = linear_engine.KIND
spec = CompileSpec(engine="tensorrt", batch_size=2)
card = compile_engine(spec, loaded_model(), [grey(0)], Path("engine"))
folder = FolderStore(Path("engine"))
write_card(folder, card.to_mapping())
engine = open_engine(folder, Path("work"), batch_size=2, kind="tensorrt")
assert engine.card == card
"""


def loaded(code: str, folder: Path) -> list[str]:
    """Return which of the large libraries a process has loaded at the end of `code`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\n{REPORT}"],
        cwd=folder,
        env={"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    "modules",
    [
        "hbseg.ml.engines.opening",
        "hbseg.ml.measuring",
        "hbseg_jobs.compile, hbseg_jobs.efficiency, hbseg_jobs.infer",
    ],
)
def test_modules_that_open_engines_load_no_kind(tmp_path: Path, modules: str) -> None:
    assert loaded(f"import {modules}", tmp_path) == []


def test_another_kind_is_compiled_and_run_without_onnx(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    assert loaded(SECOND_KIND, tmp_path) == ["torch"]


def test_an_onnx_engine_runs_with_its_runtime_alone(chain: Chain, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from hbseg.ml.engines.opening import open_engine
from hbseg.storage.opening import open_store

open_engine(open_store({chain.engine.url!r}), Path("work"), batch_size={BATCH})
"""
    assert loaded(code, tmp_path) == ["onnxruntime"]


class Loaded(BaseException):
    pass


@pytest.mark.parametrize(
    ("job", "spec", "step"),
    [
        (compile_job, CompileSpec(batch_size=BATCH), Step.COMPILE),
        (infer_job, InferSpec(batch_size=BATCH), Step.INFER),
    ],
)
def test_a_step_loads_a_kind_where_sigterm_ends_it(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, job: ModuleType, spec: Spec, step: Step
) -> None:
    open_contexts: list[str] = []

    @contextmanager
    def libraries() -> Iterator[None]:
        open_contexts.append("libraries")
        yield
        open_contexts.pop()

    def load() -> NoReturn:
        assert open_contexts == ["libraries"]
        raise Loaded

    monkeypatch.setattr(job, "libraries", libraries)
    monkeypatch.setitem(KINDS, "onnx", replace(KINDS["onnx"], load_compiler=load, load_opener=load))
    inputs = {"checkpoint": chain.stage, "engine": chain.engine, "dataset": chain.version}
    with pytest.raises(Loaded):
        job.work(chain.context(step, spec, "loads", work=f"loads-{step}", **inputs))
