"""What an entry point makes of its arguments, and how it loads what it needs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hbseg.config.placement import Placement
from hbseg.config.specs import DatasetBlock, ModelBlock, PrepareSpec, TrainSpec
from hbseg.data.versions import (
    DATASET,
    Counts,
    DatasetRecord,
    FoldRecord,
    VersionEntry,
    publish,
)
from hbseg.errors import NotFoundError, SpecError
from hbseg.launcher.options import Launch
from hbseg.runs.run import Run
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step
from hbseg.storage.markers import sha256_of, write_marker
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from hbseg_jobs.entry import StepContext, context_of, read_spec

VERSION = "0123456789abcdef"
SPEC = TrainSpec(model=ModelBlock())


def prepared(data: Store) -> Store:
    """Write an empty dataset version and make it the current one."""
    counts = Counts(train_images=0, test_images=0, shards=0)
    record = DatasetRecord(
        version=VERSION,
        spec=PrepareSpec(folds=2),
        counts=counts,
        folds=(FoldRecord(persons=0, images=0), FoldRecord(persons=0, images=0)),
        shards=(),
    ).to_json()
    folder = data.folder(f"versions/{VERSION}")
    folder.put(DATASET, record)
    write_marker(
        folder, step="prepare", spec_hash="x", inputs={}, outputs={DATASET: sha256_of(record)}
    )
    publish(data, VersionEntry(version=VERSION, counts=counts))
    return folder


def call(root: Path, spec: TrainSpec, inputs: dict[str, str]) -> StepCall:
    return StepCall(
        run="first",
        step=Step.STAGE1,
        prefix="stage1",
        spec=spec,
        runs=str(root / "runs"),
        data=str(root / "data"),
        inputs=inputs,
    )


def context(root: Path, spec: TrainSpec, inputs: dict[str, str]) -> StepContext:
    (root / "spec.yaml").write_text(spec.to_yaml())
    arguments = call(root, spec, inputs).arguments(
        spec_file=str(root / "spec.yaml"), work=str(root / "work")
    )
    return context_of(arguments)


def test_a_spec_without_a_version_gets_the_current_one(tmp_path: Path) -> None:
    folder = prepared(open_store(tmp_path / "data"))

    found = context(tmp_path, SPEC, {})

    assert isinstance(found.task.spec, TrainSpec)
    assert found.task.spec.dataset.version == VERSION
    assert found.input("dataset").url == folder.url
    assert found.task.input_digests().keys() == {"dataset"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("apiVersion: hbseg/v2\nkind: TrainSpec\n", "was written as hbseg/v2 by a newer hbseg"),
        ("kind: TrainSpec\nmodel: {depth: 9}\n", "unknown key model.depth"),
    ],
)
def test_a_spec_of_a_newer_version_than_the_images_is_refused_with_what_to_do(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)

    with pytest.raises(SpecError) as error:
        read_spec(path, "0")

    assert reason in error.value.message
    assert error.value.hint == "submit with the same hbseg version as the image's"
    assert error.value.step_exit_code == 78


def test_a_spec_with_a_version_stays_as_it_is(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"dataset": DatasetBlock(version="fedcba9876543210")})

    found = context(tmp_path, spec, {"dataset": str(tmp_path / "there")})

    assert found.task.spec == spec
    assert found.input("dataset").url == str(tmp_path / "there")


def test_without_a_dataset_nothing_can_be_pinned(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no dataset in"):
        context(tmp_path, SPEC, {})


def test_a_launcher_takes_what_was_pinned_for_done(tmp_path: Path) -> None:
    prepared(open_store(tmp_path / "data"))
    found = context(tmp_path, SPEC, {})
    launch = Launch(
        job=tmp_path,
        module="m",
        arguments=(),
        step=Step.STAGE1,
        run=Run(open_store(tmp_path / "runs"), "first"),
        prefix="stage1",
        placement=Placement(),
        spec_hash=SPEC.digest(),
        spec=tmp_path / "spec.yaml",
        data=str(tmp_path / "data"),
        work=tmp_path,
    )
    assert not launch.is_done()

    found.finish({})

    assert launch.is_done()


def test_torch_is_not_loaded_before_a_step_knows_its_work() -> None:
    modules = ("train", "compile", "efficiency", "infer", "report", "prepare")
    names = ", ".join(f"hbseg_jobs.{module}" for module in modules)

    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {names}; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "False\n"


LOADS = """
import gc, os, signal, sys
from hbseg_jobs import entry

def work(context):
    with entry.libraries():
        print("collects", gc.isenabled())
        if sys.argv[1] == "end":
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except Exception as error:
                print("an import took it for its own:", error)
    print("collects", gc.isenabled(), "frozen", gc.get_freeze_count() > 1000)
    os.kill(os.getpid(), signal.SIGTERM)

entry.context_of = lambda arguments: None
entry.run_step(work)
"""


@pytest.mark.parametrize(
    ("when", "said"),
    [("end", "collects False\n"), ("go on", "collects False\ncollects True frozen True\n")],
)
def test_sigterm_ends_a_step_while_it_loads_and_later(tmp_path: Path, when: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADS, when],
        env={**os.environ, "HBSEG_FAILURES": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (143, said)
    assert done.stderr == "error: ended by SIGTERM\n"
    record = json.loads((tmp_path / "0.json").read_text())
    assert (record["code"], record["reason"]) == (143, "ended by SIGTERM")


FILLS_THE_DISK = """
import errno, sys
from hbseg_jobs import entry

def work(context):
    raise OSError(errno.ENOSPC, "No space left on device", sys.argv[1])

entry.context_of = lambda arguments: None
entry.run_step(work)
"""


def test_a_full_disk_is_told_with_its_free_bytes_and_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "not" / "there"

    done = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, str(file)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 70
    assert re.fullmatch(rf"error: disk full while writing {file} \(\d+ bytes free\)\n", done.stderr)
