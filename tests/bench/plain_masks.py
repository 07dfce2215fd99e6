"""The plain way with a submission: every row becomes a mask of 2048 x 2048 pixels.

Called as `python -m tests.bench.plain_masks FILE` it reads all rows, and with several files and
`--to OUT` it writes the majority of them.
"""

from __future__ import annotations

import csv
import sys
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

SIDE = 2048


def decoded(code: str) -> NDArray[np.uint8]:
    mask = np.zeros(SIDE * SIDE, dtype=np.uint8)
    numbers = np.asarray(code.split(), dtype=int)
    for start, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
        mask[start : start + length] = 1
    return mask


def encoded(mask: NDArray[np.uint8]) -> str:
    padded = np.concatenate(([0], mask, [0]))
    edges = np.flatnonzero(padded[1:] != padded[:-1]) + 1
    edges[1::2] -= edges[::2]
    return " ".join(map(str, edges))


def main(paths: list[str], target: str | None) -> None:
    csv.field_size_limit(1 << 30)
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, newline="")) for path in paths]
        output = None if target is None else stack.enter_context(open(target, "w", newline=""))
        for rows in zip(*map(csv.DictReader, files), strict=True):
            masks = [decoded(row["rle"]) for row in rows]
            if output is not None:
                csv.writer(output).writerow(
                    [rows[0]["image_name"], rows[0]["class"], encoded(_majority(masks))]
                )


def _majority(masks: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    votes = np.stack(masks).sum(axis=0, dtype=np.uint8)
    return np.asarray(votes > len(masks) / 2, dtype=np.uint8)


if __name__ == "__main__":
    words = sys.argv[1:]
    if "--to" in words:
        main(words[: words.index("--to")], words[-1])
    else:
        main(words, None)
