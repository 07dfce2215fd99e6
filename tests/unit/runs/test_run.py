from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hbseg.config.placement import Placement
from hbseg.data.versions import read_index
from hbseg.errors import (
    BucketMissing,
    ConflictError,
    InvalidInput,
    NotFoundError,
    UsageError,
    VersionError,
)
from hbseg.runs.attempts import summary_problem
from hbseg.runs.run import Run, UnreadRun, list_runs
from hbseg.storage.folder import FolderStore


def test_a_name_is_claimed_once(tmp_path: Path) -> None:
    runs = FolderStore(tmp_path)
    mine = Run(runs, "hands").claim(data="/data", owner="ann")
    assert Run(runs, "hands").claim(data="/data", owner="ann") == mine
    with pytest.raises(ConflictError, match="belongs to ann in local; choose another name"):
        Run(runs, "hands").claim(data="/data", owner="bob")
    with pytest.raises(ConflictError, match="reads /data, not /other"):
        Run(runs, "hands").claim(data="/other", owner="ann")


def test_its_owner_may_move_a_run_to_a_cluster_and_back(tmp_path: Path) -> None:
    run = Run(FolderStore(tmp_path), "hands")
    first = run.claim(data="/data", owner="ann")
    run.summarise(steps={"stage1": "done"})

    moved = run.claim(data="/data", namespace="team", owner="ann")

    assert (moved.namespace, moved.created) == ("team", first.created)
    assert run.read() == moved
    with pytest.raises(ConflictError, match="belongs to ann in team; choose another name"):
        run.claim(data="/data", namespace="team", owner="bob")
    run.summarise(steps={"stage2": "running"})
    assert run.claim(data="/data", namespace="team", owner="ann").steps["stage2"] == "running"
    with pytest.raises(
        ConflictError,
        match=r"at work in team \(stage2\), not in local; .* --backend kubernetes -n team",
    ):
        run.claim(data="/data", owner="ann")
    run.summarise(steps={"stage2": "cancelled"})
    assert run.claim(data="/data", owner="ann").namespace == "local"


def test_a_move_keeps_what_was_written_meanwhile(tmp_path: Path) -> None:
    class Racing(FolderStore):
        raced = False

        def put_if_match(self, key: str, data: bytes, tag: str) -> bool:
            if not Racing.raced:
                Racing.raced = True
                Run(FolderStore(tmp_path), "hands").summarise(steps={"stage1": "done"})
            return super().put_if_match(key, data, tag)

        def folder(self, path: str) -> Racing:
            return Racing(tmp_path / path)

    Run(FolderStore(tmp_path), "hands").claim(data="/data")

    moved = Run(Racing(tmp_path), "hands").claim(data="/data", namespace="team")

    assert (moved.namespace, moved.steps) == ("team", {"stage1": "done"})


def test_of_many_at_once_one_gets_the_name(tmp_path: Path) -> None:
    runs = FolderStore(tmp_path)

    def claim(owner: int) -> bool:
        try:
            Run(runs, "hands").claim(data="/data", owner=str(owner))
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(16))) == 1


def test_summaries_add_up(tmp_path: Path) -> None:
    run = Run(FolderStore(tmp_path), "hands")
    run.claim(data="/data")
    run.summarise(steps={"stage1": "succeeded"}, dice=0.5)
    run.summarise(steps={"stage2": "running"})
    claim = run.read()
    assert claim.steps == {"stage1": "succeeded", "stage2": "running"}
    assert claim.dice == 0.5


def test_runs_are_listed_by_name_and_other_folders_are_not(tmp_path: Path) -> None:
    runs = FolderStore(tmp_path)
    for name in ("b", "a"):
        Run(runs, name).claim(data="/data")
    (tmp_path / "Not A Run").mkdir()
    (tmp_path / "empty").mkdir()
    assert [claim.name for claim in list_runs(runs)] == ["a", "b"]


def test_a_claim_that_cannot_be_read_is_listed_with_its_problem(tmp_path: Path) -> None:
    runs = FolderStore(tmp_path)
    mine = Run(runs, "b").claim(data="/data")
    runs.put("a/run.json", b'{"apiVersion": "hbseg/v2"}')
    runs.put("c/run.json", b"{")

    newer, readable, damaged = list_runs(runs)

    assert readable == mine
    assert isinstance(newer, UnreadRun)
    assert isinstance(damaged, UnreadRun)
    assert (newer.name, damaged.name) == ("a", "c")
    assert "a/run.json was written as hbseg/v2 by a newer hbseg" in newer.problem
    assert "c/run.json: not readable as YAML" in damaged.problem


def test_a_claim_of_a_newer_version_is_never_changed(tmp_path: Path) -> None:
    run = Run(FolderStore(tmp_path), "hands")
    newer = run.claim(data="/data").to_json().replace(b'"dice"', b'"score": 1, "dice"')
    run.folder.put("run.json", newer)

    changes: list[Callable[[], object]] = [
        lambda: run.claim(data="/data"),
        lambda: run.begin("stage1", namespace="local"),
        lambda: run.summarise(steps={"stage1": "done"}),
    ]
    for change in changes:
        with pytest.raises(VersionError, match=r"run\.json has the key score, .*; upgrade hbseg"):
            change()

    assert run.folder.get("run.json") == newer


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no run nobody in"):
        Run(FolderStore(tmp_path), "nobody").read()


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a.b", "a-", "../x", "a/b", "a" * 41, "손"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=r"run name .* is not valid"):
        Run(FolderStore(tmp_path), name)


def test_the_shape_of_a_placement_is_nodes_times_gpus() -> None:
    placement = Placement().with_shape("2x4")
    assert (placement.nodes, placement.processes_per_node) == (2, 4)
    assert Placement().with_shape(None) == Placement()
    for shape in ("2", "0x4", "2x", "ax4", "2x4x1"):
        with pytest.raises(UsageError, match="expected NODESxGPUS"):
            Placement().with_shape(shape)


def test_a_missing_bucket_is_not_taken_for_a_missing_run(tmp_path: Path) -> None:
    class NoBucket(FolderStore):
        def get(self, key: str) -> bytes:
            raise BucketMissing("no such bucket: b")

    with pytest.raises(BucketMissing):
        Run(NoBucket(tmp_path), "hands").read()
    with pytest.raises(BucketMissing):
        read_index(NoBucket(tmp_path))


def test_a_summary_that_others_keep_out_is_a_warning(tmp_path: Path) -> None:
    class NeverFirst(FolderStore):
        def put_if_match(self, key: str, data: bytes, tag: str) -> bool:
            return False

    Run(FolderStore(tmp_path), "hands").claim(data="/data")
    kept_out = Run(NeverFirst(tmp_path), "hands")

    warning = summary_problem(kept_out, {"stage1": "done"})

    assert warning is not None
    assert warning.startswith("warning: the listing of run hands is out of date: ")
    assert "run.json was changed by others at each of 5 tries" in warning
