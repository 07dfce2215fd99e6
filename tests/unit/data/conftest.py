"""A tiny raw set in the task's layout: 4 persons to train on, 1 to test, a bone a hexagon."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hbseg.anatomy import BONES

SIDE = 2048
PERSONS = 4


def hexagon(number: int, shift: int) -> list[list[int]]:
    """Return the outline of bone `number`; neighbours overlap a little."""
    x, y = 40 + 320 * (number % 6) + shift, 150 + 380 * (number // 6)
    return [[x, y], [x + 200, y - 60], [x + 350, y], [x + 350, y + 240], [x + 180, y + 300], [x, y]]


def hand_json(name: str, shift: int) -> dict[str, Any]:
    """Return an annotation with the traps of real ones: odd metadata, .jpg, order of its own."""
    annotations = [
        {"id": bone, "type": "poly_seg", "attributes": {}, "points": points, "label": bone}
        for bone, points in ((bone, hexagon(i, shift)) for i, bone in enumerate(BONES))
    ]
    return {
        "annotations": annotations[::-1],
        "attributes": {},
        "file_id": "0",
        "filename": name.removesuffix(".png") + ".jpg",
        "parent_path": "/",
        "last_modifier_id": "0",
        "metadata": {"height": 3060, "width": 3060},
        "last_workers": None,
    }


def picture_png(content: dict[str, Any]) -> bytes:
    """Return a 2048 x 2048 PNG with three equal channels of the polygons in `content`."""
    gray = np.tile(np.linspace(5, 60, SIDE).astype(np.uint8), (SIDE, 1))
    for number, entry in enumerate(content["annotations"]):
        cv2.fillPoly(gray, [np.array(entry["points"], dtype=np.int32)], 90 + 4 * number)
    done, encoded = cv2.imencode(".png", cv2.merge([gray, gray, gray]))
    assert done
    return encoded.tobytes()


def write_hand(root: Path, split: str, person: str, name: str, shift: int) -> None:
    content = hand_json(name, shift)
    picture = root / split / "DCM" / person / name
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(picture_png(content))
    if split == "train":
        labels = root / split / "outputs_json" / person / name.replace(".png", ".json")
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def raw_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean raw set; do not change it."""
    root = tmp_path_factory.mktemp("raw")
    for number in range(PERSONS + 1):
        split = "train" if number < PERSONS else "test"
        endings = ("_R", "_L") if number == 0 else ("", "")
        for hand, ending in enumerate(endings):
            name = f"image16611308{number:02d}{hand}{ending}.png"
            write_hand(root, split, f"ID00{number + 1}", name, 3 * number + hand)
    return root


@pytest.fixture
def raw_copy(raw_set: Path, tmp_path: Path) -> Path:
    """A copy of the raw set that a test may spoil."""
    return Path(shutil.copytree(raw_set, tmp_path / "raw"))


EditLabels = Callable[[Path, str, Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def edit_labels() -> EditLabels:
    """Change the content of one annotation file in place."""

    def edit(root: Path, path: str, change: Callable[[dict[str, Any]], None]) -> None:
        file = root / path
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return edit
