"""The tools for CSVs, beside masks of full size: the plain way to check and to combine them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hbseg import rle, submission
from hbseg.data import annotation
from hbseg.data.synth import write_raw_set
from hbseg.rle import Runs
from tests.bench.costs import Command, hbseg, medians
from tests.bench.figures import Figure

IMAGES = 288
"""Of the task: 8,352 rows."""
FEW = 12
"""For the plain way, which takes minutes for all."""
HANDS = 4
FILES = 3
TIMES = 3


def figures(folder: Path) -> list[Figure]:
    """Return the figures; `folder` is made, for the files."""
    folder.mkdir()
    hands = _hands(folder / "raw")
    full = [_written(folder / f"full{i}.csv", hands, IMAGES, move=i) for i in range(FILES)]
    few = [_written(folder / f"few{i}.csv", hands, FEW, move=i) for i in range(FILES)]
    costs = medians(
        {
            "validate": _ours("validate", full[0]),
            "plain validate": _plain(full[0]),
            "vote": _ours("vote", *full, "--to", str(folder / "out.csv")),
            "vote of few": _ours("vote", *few, "--to", str(folder / "out.csv")),
            "plain vote of few": _plain(*few, "--to", str(folder / "out.csv")),
        },
        TIMES,
    )
    name = "hbseg submission"
    return [
        Figure(
            f"{name} validate, {IMAGES * 29:,} rows: CPU (baseline: a mask of each row)",
            "s",
            costs["validate"].cpu,
            costs["plain validate"].cpu,
        ),
        Figure(f"{name} vote of {FILES}, {IMAGES * 29:,} rows: CPU", "s", costs["vote"].cpu),
        Figure(
            f"{name} vote of {FILES}, {FEW * 29} rows: CPU (baseline: masks, summed)",
            "s",
            costs["vote of few"].cpu,
            costs["plain vote of few"].cpu,
        ),
    ]


def _hands(raw: Path) -> list[list[Runs]]:
    write_raw_set(raw, hands=HANDS, test_hands=0, seed=0, workers=os.cpu_count() or 1)
    size = (submission.NATIVE_SIDE, submission.NATIVE_SIDE)
    return [
        annotation.runs(annotation.read(path.read_bytes(), source=path.name), size)
        for path in sorted(raw.glob("train/outputs_json/*/*.json"))
    ]


def _written(path: Path, hands: list[list[Runs]], images: int, move: int) -> str:
    """Write a CSV of hands that were moved by some pixels to the left."""
    with path.open("w") as file:
        file.write(submission.header())
        for number in range(images):
            codes = [rle.to_text(_moved(runs, move)) for runs in hands[number % len(hands)]]
            file.write(submission.rows(submission.Image(f"image{number:04d}.png"), codes))
    return str(path)


def _moved(runs: Runs, pixels: int) -> Runs:
    shifted = runs.copy()
    shifted[:, 0] -= pixels
    return shifted[shifted[:, 0] >= 0]


def _ours(*words: str) -> Command:
    return Command(hbseg("submission", *words))


def _plain(*words: str) -> Command:
    return Command([sys.executable, "-m", "tests.bench.plain_masks", *words])
