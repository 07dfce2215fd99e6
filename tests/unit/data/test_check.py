from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hbseg.data.check import RULES, CheckReport, check

FIRST = "train/DCM/ID002/image16611308010.png"
LABELS = "train/outputs_json/ID002/image16611308010.json"

Change = Callable[[dict[str, Any]], None]
EditLabels = Callable[[Path, str, Change], None]


@pytest.fixture
def raw_copy(raw_copy: Path) -> Path:
    """Six pictures are enough to find one defect in; each is decoded in every test."""
    for person in ("ID003", "ID004"):
        for folder in ("DCM", "outputs_json"):
            shutil.rmtree(raw_copy / "train" / folder / person)
    return raw_copy


def found(report: CheckReport) -> list[tuple[str, str, str]]:
    return [(p.image, p.rule, p.severity) for p in report.problems]


def polygon(content: dict[str, Any], bone: str) -> dict[str, Any]:
    entry: dict[str, Any] = next(a for a in content["annotations"] if a["label"] == bone)
    return entry


def test_a_clean_set_has_no_findings_here_and_in_processes(raw_set: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    report = check(raw_set, workers=2, progress=lambda *call: calls.append(call))
    assert report.to_mapping() == {
        "apiVersion": "hbseg/v1",
        "kind": "CheckReport",
        "images": 10,
        "problems": [],
    }
    assert calls == [("check", done, 10) for done in range(1, 11)]
    assert check(raw_set) == report


def drop(bone: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["annotations"].remove(polygon(content, bone))

    return change


def relabel(old: str, new: str) -> Change:
    return lambda content: polygon(content, old).update(label=new)


def add(bone: str, points: list[list[int]]) -> Change:
    return lambda content: content["annotations"].append({"label": bone, "points": points})


def move(bone: str, points: list[list[int]]) -> Change:
    return lambda content: polygon(content, bone).update(points=points)


def repeat(bone: str) -> Change:
    return lambda content: content["annotations"].append(dict(polygon(content, bone)))


def state(**values: object) -> Change:
    return lambda content: content.update(values)


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        (drop("Pisiform"), [("class-missing", "error")], "no polygon of Pisiform"),
        (
            relabel("Lunate", "Lunat"),
            [("class-missing", "error"), ("class-unknown", "error")],
            "did you mean Lunate?",
        ),
        (repeat("Ulna"), [("class-doubled", "error")], "it was drawn twice"),
        (
            add("finger-1", [[1900, 1900], [1950, 1900], [1950, 1950]]),
            [("class-doubled", "error")],
            "pixels apart",
        ),
        (
            add("finger-1", [[130, 400], [300, 400], [300, 500]]),
            [("second-polygon", "warning")],
            "their union",
        ),
        (move("Radius", [[5, 5], [9, 9]]), [("few-points", "error")], "has 2 points"),
        (
            move("Radius", [[5, 5], [90, -3], [2049, 60]]),
            [("points-outside", "error")],
            "2 points outside the 2048 x 2048 picture, first (90, -3)",
        ),
        (state(metadata={"height": 10, "width": 20}), [("odd-metadata", "warning")], "20 x 10"),
        (state(metadata="none"), [("odd-metadata", "warning")], "expected height and width"),
        (state(filename="other.png"), [("odd-metadata", "warning")], "other.png"),
        (state(annotations=None), [("annotation-unreadable", "error")], "list `annotations`"),
    ],
)
def test_a_planted_label_defect_is_found_and_nothing_else(
    raw_copy: Path,
    edit_labels: EditLabels,
    change: Change,
    expected: list[tuple[str, str]],
    message: str,
) -> None:
    edit_labels(raw_copy, LABELS, change)
    report = check(raw_copy)
    assert found(report) == [(FIRST, rule, severity) for rule, severity in expected]
    assert message in report.problems[-1].message


@pytest.mark.parametrize(
    "change",
    [
        lambda content: [content.pop(key) for key in list(content) if key != "annotations"],
        state(metadata={"height": 2048, "width": 2048}, filename="image16611308010.png"),
        state(metadata={}),
        move("Ulna", [[0, 0], [2048, 0], [2048, 2048]]),
    ],
)
def test_harmless_oddities_are_no_findings(
    raw_copy: Path, edit_labels: EditLabels, change: Change
) -> None:
    edit_labels(raw_copy, LABELS, change)
    assert found(check(raw_copy)) == []


def rewritten(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    cv2.imwrite(str(path), change(pixels))


@pytest.mark.parametrize(
    ("change", "rule", "message"),
    [
        (lambda p: p[:2000], "picture-size", "2048 x 2000 pixels"),
        (lambda p: p.astype(np.uint16) * 257, "picture-depth", "16 bits in 3 channels"),
        (lambda p: np.dstack([p, p[:, :, 0]]), "picture-depth", "8 bits in 4 channels"),
    ],
)
def test_a_picture_of_another_size_or_depth_is_found(
    raw_copy: Path, change: Callable[[np.ndarray], np.ndarray], rule: str, message: str
) -> None:
    rewritten(raw_copy / "test/DCM/ID005/image16611308040.png", change)
    report = check(raw_copy)
    assert found(report) == [("test/DCM/ID005/image16611308040.png", rule, "error")]
    assert message in report.problems[0].message


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_picture_is_found(raw_copy: Path, keep: int) -> None:
    file = raw_copy / FIRST
    file.write_bytes(file.read_bytes()[:keep])
    assert found(check(raw_copy)) == [(FIRST, "picture-unreadable", "error")]


def test_missing_files_are_named_by_the_pictures_path(raw_copy: Path) -> None:
    (raw_copy / LABELS).unlink()
    (raw_copy / "train/DCM/ID001/image16611308001_L.png").unlink()
    report = check(raw_copy)
    assert found(report) == [
        ("train/DCM/ID001/image16611308000_R.png", "unpaired-hand", "warning"),
        ("train/DCM/ID001/image16611308001_L.png", "picture-missing", "error"),
        (FIRST, "annotation-missing", "error"),
    ]
    assert LABELS in report.problems[-1].message
    assert [p.image for p in report.errors] == [p.image for p in report.problems[1:]]


def test_two_hands_of_one_side_are_no_pair(raw_copy: Path) -> None:
    for folder, suffix in (("DCM", "png"), ("outputs_json", "json")):
        old = raw_copy / "train" / folder / "ID001" / f"image16611308001_L.{suffix}"
        old.rename(old.with_name(f"image16611308001_R.{suffix}"))
    edited = raw_copy / "train/outputs_json/ID001/image16611308001_R.json"
    content = json.loads(edited.read_text())
    edited.write_text(json.dumps({"annotations": content["annotations"]}))
    assert [p.rule for p in check(raw_copy).problems] == ["unpaired-hand"] * 2


def test_rules_have_names_of_their_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
