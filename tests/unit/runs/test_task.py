from __future__ import annotations

from pathlib import Path

import pytest

from hbseg.config.specs import CompileSpec
from hbseg.errors import ContractError, NotFoundError
from hbseg.runs.steps import Step
from hbseg.runs.task import Input, Task
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import MARKER, Marker, read_marker, sha256_of, verified, write_marker
from hbseg.storage.store import Store


def mark(folder: Store, content: bytes, **figures: float) -> Marker:
    return write_marker(
        folder,
        step="stage2",
        spec_hash="0" * 64,
        inputs={},
        outputs={"weights": sha256_of(content)},
        metrics=figures,
    )


def compile_task(root: Store, spec: CompileSpec | None = None) -> Task:
    return Task(
        step=Step.COMPILE,
        spec=spec or CompileSpec(),
        folder=root.folder("engine/1"),
        prefix="engine/1",
        inputs=(Input("checkpoint", root.folder("stage2")),),
    )


def finish(task: Task) -> None:
    write_marker(
        task.folder,
        step=task.step,
        spec_hash=task.spec.digest(),
        inputs=task.input_digests(),
        outputs={},
    )


def test_a_task_is_done_when_its_marker_fits_spec_and_inputs(tmp_path: Path) -> None:
    root = FolderStore(tmp_path)
    mark(root.folder("stage2"), b"one")
    task = compile_task(root)
    assert not task.is_done()
    finish(task)
    assert task.is_done()
    assert not compile_task(root, CompileSpec(batch_size=99)).is_done()


def test_an_input_that_changed_makes_a_task_stale(tmp_path: Path) -> None:
    root = FolderStore(tmp_path)
    mark(root.folder("stage2"), b"one")
    task = compile_task(root)
    before = task.identity()
    finish(task)
    mark(root.folder("stage2"), b"two")
    assert not task.is_done()
    assert task.identity() != before


def test_the_same_result_at_another_time_changes_nothing(tmp_path: Path) -> None:
    root = FolderStore(tmp_path)
    first = mark(root.folder("stage2"), b"one", seconds=1.0)
    task = compile_task(root)
    finish(task)
    second = mark(root.folder("stage2"), b"one", seconds=2.0)
    assert first.digest == second.digest
    assert task.is_done()


def test_a_task_without_its_input_is_not_done(tmp_path: Path) -> None:
    task = compile_task(FolderStore(tmp_path))
    assert not task.is_done()
    with pytest.raises(NotFoundError):
        task.input_digests()


def test_a_damaged_marker_is_refused_by_name(tmp_path: Path) -> None:
    folder = FolderStore(tmp_path)
    folder.put(MARKER, b'{"kind": "Marker", "step": ')
    with pytest.raises(ContractError, match=r"unreadable marker.*run the step again"):
        read_marker(folder)


def test_bytes_that_differ_from_their_marker_are_refused() -> None:
    assert verified(b"x", sha256_of(b"x"), source="s") == b"x"
    with pytest.raises(ContractError, match="weights is damaged"):
        verified(b"y", sha256_of(b"x"), source="weights")


def test_names_of_tasks_are_fit_for_files(tmp_path: Path) -> None:
    assert compile_task(FolderStore(tmp_path)).name == "engine-1"
