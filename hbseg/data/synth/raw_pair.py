"""One picture of a raw data set and its annotation, named and written as the task has them."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from hbseg.data.synth.artefacts import Side
from hbseg.data.synth.hand import SyntheticHand, synthetic_hand
from hbseg.data.synth.looks import TASK_LOOKS, WIDE_LOOKS

TEMPORARY: Final = ".tmp"
"""Ending of files that are still being written."""

TRAIN_DEVIATED: Final = 0.1
TEST_DEVIATED: Final = 0.5
"""Shares of bent wrists: a tenth of the training hands, half of the test hands."""

NAMED_PERSONS: Final = 10
"""So many first training persons carry the side in the file name, as in the task."""

FIRST_TIME_MS: Final = 1661130828152
"""Time stamp of the first picture, milliseconds since 1970."""

BETWEEN_PERSONS_MS: Final = 4_707_000
BETWEEN_HANDS_MS: Final = 63_213
"""The left hand follows the right one by about a minute."""

CLAIMED_SIZE: Final = 3060
"""Height and width that the metadata wrongly states."""

PNG_COMPRESSION: Final = 1
PNG_FILTER: Final = cv2.IMWRITE_PNG_FILTER_SUB
"""zlib level and row filter; others take twice as long and save nothing on noisy pictures."""

_ANNOTATION_STREAM: Final = 7  # follows the streams of `hand`


@dataclass(frozen=True)
class Pair:
    """A picture and its annotation, still to be made."""

    out: Path
    seed: int
    person: int
    side: Side
    train: bool

    @property
    def name(self) -> str:
        """File name without ending."""
        time = FIRST_TIME_MS + (self.person - 1) * BETWEEN_PERSONS_MS
        time += BETWEEN_HANDS_MS if self.side == "L" else 0
        named = self.train and self.person <= NAMED_PERSONS
        return f"image{time}_{self.side}" if named else f"image{time}"

    @property
    def picture(self) -> Path:
        """Path of the PNG."""
        split = "train" if self.train else "test"
        return self.out / split / "DCM" / f"ID{self.person:03d}" / f"{self.name}.png"

    @property
    def annotation(self) -> Path:
        """Path of the JSON; it is written last, so that it stands for a complete pair."""
        split = "train" if self.train else "test_truth"
        return self.out / split / "outputs_json" / f"ID{self.person:03d}" / f"{self.name}.json"

    def is_complete(self) -> bool:
        """Whether both files are there in full."""
        return self.annotation.exists() and self.picture.exists()


def write_pair(pair: Pair) -> None:
    """Makes one hand: the PNG first, the JSON last."""
    hand = synthetic_hand(
        pair.seed,
        pair.person,
        pair.side,
        deviated_probability=TRAIN_DEVIATED if pair.train else TEST_DEVIATED,
        looks=WIDE_LOOKS if pair.train else TASK_LOOKS,
    )
    write_whole(pair.picture, _png(hand))
    write_whole(pair.annotation, json.dumps(_document(pair, hand)).encode())


def _png(hand: SyntheticHand) -> bytes:
    """The picture as a PNG of three equal channels."""
    settings = [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION]
    settings += [cv2.IMWRITE_PNG_FILTER, PNG_FILTER]
    encoded, png = cv2.imencode(".png", cv2.merge([hand.image] * 3), settings)
    if not encoded:
        raise RuntimeError("OpenCV could not encode a picture")
    return png.tobytes()


def _document(pair: Pair, hand: SyntheticHand) -> dict[str, Any]:
    """The annotation as the task's tool writes it.

    With its traps: wrong size and ending, shuffled classes, polygons not closed.
    """
    rng = np.random.default_rng(
        [pair.seed, pair.person, 1 + (pair.side == "L"), _ANNOTATION_STREAM]
    )
    worker = rng.bytes(12).hex()
    bones = rng.permutation(list(hand.polygons)).tolist()
    return {
        "annotations": [
            {
                "id": str(uuid.UUID(bytes=rng.bytes(16), version=4)),
                "type": "poly_seg",
                "attributes": {},
                "points": hand.polygons[bone].tolist(),
                "label": bone,
            }
            for bone in bones
        ],
        "attributes": {},
        "file_id": rng.bytes(12).hex(),
        "filename": f"{pair.name}.jpg",
        "parent_path": "/",
        "last_modifier_id": worker,
        "metadata": {"height": CLAIMED_SIZE, "width": CLAIMED_SIZE},
        "last_workers": worker,
    }


def temporary(path: Path) -> Path:
    """Where a file lies while it is being written."""
    return path.with_name(f".{path.name}{TEMPORARY}")


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it is there in full or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary(path)
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
