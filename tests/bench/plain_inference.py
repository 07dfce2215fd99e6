"""The plain way from pictures to a CSV of masks: torch, and planes of the pictures' own size.

Called as `python -m tests.bench.plain_inference NETWORK FOLDER CSV` it reads all PNGs of a folder.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hbseg.anatomy import BONES

NATIVE = 2048
SIZE = 512
BATCH = 2
WORKERS = 2


class Pictures(Dataset[tuple[str, Tensor]]):
    """The pictures of a folder at the network's size."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*.png"))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        path = self._paths[index]
        gray = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert gray is not None
        small = cv2.resize(gray, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        return path.name, torch.from_numpy(small)[None].float()


def codes_of(logits_bchw: Tensor) -> list[list[str]]:
    """Return the code of each mask, by picture and bone."""
    full = F.interpolate(logits_bchw, size=(NATIVE, NATIVE), mode="bilinear")
    masks = (torch.sigmoid(full) > 0.5).numpy()
    return [[_encoded(mask) for mask in picture] for picture in masks]


def _encoded(mask: NDArray[np.bool_]) -> str:
    pixels = np.concatenate([[0], mask.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(value) for value in runs)


def main(network: str, folder: str, target: str) -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = torch.load(network, weights_only=False).eval()
    loader = DataLoader(Pictures(Path(folder)), batch_size=BATCH, num_workers=WORKERS)
    with open(target, "w", newline="") as file, torch.no_grad():
        writer = csv.writer(file)
        writer.writerow(["image_name", "class", "rle"])
        for names, images in loader:
            for name, codes in zip(names, codes_of(model(images)), strict=True):
                writer.writerows(
                    (name, bone, code) for bone, code in zip(BONES, codes, strict=True)
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
