"""Class points on real hands: places where a named bone must lie, and no other bone."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hbseg import rle, submission
from hbseg.anatomy import BONES

FILE = "axis_points.json"
"""`{hand: {file, size: [width, height], points: [[bone, x, y], ...]}}` beside the pictures."""


@dataclass(frozen=True)
class Hits:
    """How many points of a bone lie in its mask and in no other."""

    right: int
    points: int

    @property
    def rate(self) -> float:
        """Share of the points, 0 to 1."""
        return self.right / self.points


def points_hit(radiographs: Path, csv: Path) -> dict[str, Hits]:
    """Return the hits by bone in a CSV of masks; points outside their picture are passed over."""
    codes: dict[str, dict[str, str]] = defaultdict(dict)
    for name, bone, code in submission.read(csv):
        codes[name][bone] = code
    right: dict[str, int] = defaultdict(int)
    total: dict[str, int] = defaultdict(int)
    for hand in json.loads((radiographs / FILE).read_text()).values():
        width, height = hand["size"]
        runs = {
            bone: rle.from_text(code, width * height) for bone, code in codes[hand["file"]].items()
        }
        for bone, x, y in hand["points"]:
            column, row = round(x), round(y)
            if 0 <= column < width and 0 <= row < height:
                total[bone] += 1
                right[bone] += _covering(runs, row * width + column) == [bone]
    return {bone: Hits(right[bone], total[bone]) for bone in BONES if total[bone]}


def _covering(runs: dict[str, rle.Runs], position: int) -> list[str]:
    found = []
    for bone in BONES:
        index = int(np.searchsorted(runs[bone][:, 0], position, side="right")) - 1
        if index >= 0 and position < runs[bone][index].sum():
            found.append(bone)
    return found
