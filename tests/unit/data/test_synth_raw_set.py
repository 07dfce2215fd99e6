"""Synthetic raw data sets: the task's layout, refusals, repetition after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hbseg.anatomy import BONES
from hbseg.data.synth import write_raw_set
from hbseg.data.synth.raw_pair import Pair
from hbseg.errors import InvalidInput

TOP_LEVEL_KEYS = {
    "annotations",
    "attributes",
    "file_id",
    "filename",
    "parent_path",
    "last_modifier_id",
    "metadata",
    "last_workers",
}

FILES = {
    "synth.json",
    "train/DCM/ID001/image1661130828152_R.png",
    "train/DCM/ID001/image1661130891365_L.png",
    "train/outputs_json/ID001/image1661130828152_R.json",
    "train/outputs_json/ID001/image1661130891365_L.json",
    "test/DCM/ID002/image1661135535152.png",
    "test/DCM/ID002/image1661135598365.png",
    "test_truth/outputs_json/ID002/image1661135535152.json",
    "test_truth/outputs_json/ID002/image1661135598365.json",
}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def raw_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "raw"
    write_raw_set(out, hands=2, test_hands=2, seed=5)
    return out


@pytest.fixture(scope="module")
def made(raw_set: Path) -> dict[str, bytes]:
    return contents(raw_set)


def refusal(out: Path, *, hands: int = 2, test_hands: int = 2, seed: int = 5) -> str:
    with pytest.raises(InvalidInput) as caught:
        write_raw_set(out, hands=hands, test_hands=test_hands, seed=seed)
    return str(caught.value)


def test_the_layout_is_that_of_the_task(made: dict[str, bytes]) -> None:
    assert set(made) == FILES


def test_later_training_persons_carry_no_side_in_the_name() -> None:
    names = [Pair(Path(), 0, person, "L", train=True).name for person in (10, 11)]
    assert [name.endswith("_L") for name in names] == [True, False]


def test_pictures_have_three_equal_8_bit_channels(raw_set: Path) -> None:
    path = raw_set / "train/DCM/ID001/image1661130828152_R.png"
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    assert picture.shape == (2048, 2048, 3)
    assert picture.dtype == np.uint8
    assert (picture == picture[..., :1]).all()


def test_annotations_have_the_task_s_keys_and_traps(made: dict[str, bytes]) -> None:
    for path, content in made.items():
        if path.startswith(("train/outputs_json", "test_truth")):
            document: dict[str, Any] = json.loads(content)
            assert set(document) == TOP_LEVEL_KEYS
            assert document["metadata"] == {"height": 3060, "width": 3060}
            assert document["filename"] == Path(path).with_suffix(".jpg").name
            labels = [annotation["label"] for annotation in document["annotations"]]
            assert sorted(labels) == sorted(BONES)
            assert labels != list(BONES)
            for annotation in document["annotations"]:
                assert set(annotation) == {"id", "type", "attributes", "points", "label"}
                assert annotation["type"] == "poly_seg"
                assert annotation["points"][0] != annotation["points"][-1]
                assert all(isinstance(value, int) for value in annotation["points"][0])


def test_two_workers_write_the_same_bytes_as_one(made: dict[str, bytes], tmp_path: Path) -> None:
    write_raw_set(tmp_path / "raw", hands=2, test_hands=2, seed=5, workers=2)
    assert contents(tmp_path / "raw") == made


def test_a_repeated_run_makes_only_what_is_missing(
    made: dict[str, bytes], raw_set: Path, tmp_path: Path
) -> None:
    out = tmp_path / "raw"
    for name, content in made.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    lost = out / "train/outputs_json/ID001/image1661130891365_L.json"
    lost.unlink()
    (lost.parent / f".{lost.name}.tmp").write_bytes(b"half")
    (out / "test/DCM/ID002/image1661135535152.png").unlink()
    kept = out / "train/DCM/ID001/image1661130828152_R.png"
    before = kept.stat().st_mtime_ns
    steps: list[tuple[int, int]] = []
    write_raw_set(
        out, hands=2, test_hands=2, seed=5, progress=lambda done, total: steps.append((done, total))
    )
    assert steps == [(2, 4), (3, 4), (4, 4)]
    assert kept.stat().st_mtime_ns == before
    assert contents(out) == made


STOPS_BEFORE_THE_SECOND_ANNOTATION = """
import os, sys, time
from pathlib import Path
from hbseg.data.synth import write_raw_set

replace = os.replace

def stop(source, target):
    if target.name.endswith("_L.json"):
        print("stopped", flush=True)
        time.sleep(600)
    replace(source, target)

os.replace = stop
write_raw_set(Path(sys.argv[1]), hands=2, test_hands=2, seed=5)
"""


def test_a_killed_run_is_completed_to_the_same_bytes(
    made: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "raw"
    command = [sys.executable, "-c", STOPS_BEFORE_THE_SECOND_ANNOTATION, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"stopped\n"
        process.kill()
    assert len(list(out.glob("train/DCM/*/*.png"))) == 2
    assert len(list(out.glob("train/outputs_json/*/*.json"))) == 1
    write_raw_set(out, hands=2, test_hands=2, seed=5)
    assert contents(out) == made


@pytest.mark.parametrize("changes", [{"hands": 3}, {"test_hands": 1}, {"hands": -2}])
def test_odd_or_negative_numbers_of_hands_are_refused(
    changes: dict[str, int], tmp_path: Path
) -> None:
    message = refusal(tmp_path / "raw", **changes)
    assert str(next(iter(changes.values()))) in message
    assert "two hands a person" in message
    assert not (tmp_path / "raw").exists()


def test_no_hands_at_all_are_refused(tmp_path: Path) -> None:
    assert "no hands" in refusal(tmp_path / "raw", hands=0, test_hands=0)


def test_another_set_in_the_folder_is_refused(raw_set: Path) -> None:
    message = refusal(raw_set, seed=6)
    assert str(raw_set) in message
    assert "seed 5" in message
    assert "another folder or delete" in message


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    message = refusal(tmp_path)
    assert str(tmp_path) in message
    assert "another folder or delete" in message
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_folder_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("no folder")
    assert "is no folder" in refusal(tmp_path / "raw")
