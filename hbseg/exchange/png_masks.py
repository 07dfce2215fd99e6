"""One PNG mask a bone: `FOLDER/<image name>/<bone>.png`, 0 outside and 255 inside, native size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import BONES
from hbseg.data.pictures import encode_png, read_gray
from hbseg.errors import InvalidInput
from hbseg.exchange.names import checked_name
from hbseg.exchange.source import content, entries
from hbseg.rle import Runs, patch_of, runs_of
from hbseg.submission import Image
from hbseg.submission.scanning import Hand


class MaskFolder:
    """A folder of PNG masks as a `Source`."""

    def __init__(self, folder: Path) -> None:
        """Raise NotFoundError, InvalidInput: no folder, or one without folders of masks."""
        self._folders = {path.name: path for path in entries(folder) if path.is_dir()}
        if not self._folders:
            expected = f"expected IMAGE_NAME/{BONES[0]}.png and so on"
            raise InvalidInput(f"{folder}: no folders of masks", expected)

    @property
    def names(self) -> Sequence[str]:
        """Names of the images, sorted."""
        return list(self._folders)

    def hand(self, name: str) -> Hand:
        """See `Source`; all 29 masks must be there, of one size."""
        folder = self._folders[name]
        self._check_files(folder)
        masks = [(bone, _mask(folder / f"{bone}.png")) for bone in BONES]
        height, width = masks[0][1].shape
        for bone, mask in masks:
            if mask.shape != (height, width):
                raise InvalidInput(
                    f"{folder / bone}.png: {mask.shape[1]} x {mask.shape[0]} pixels, "
                    f"{BONES[0]}.png has {width} x {height}"
                )
        return Hand(Image(name, height, width), [runs_of(mask) for _, mask in masks])

    def _check_files(self, folder: Path) -> None:
        found = {path.name for path in entries(folder)}
        wanted = {f"{bone}.png" for bone in BONES}
        if found != wanted:
            first = min(found ^ wanted)
            what = "is missing" if first in wanted else "is no bone's mask"
            raise InvalidInput(f"{folder / first}: {what}, expected one PNG for each of 29 bones")


def write(hands: Iterable[Hand], folder: Path) -> None:
    """Write the masks of hands into a folder.

    Raises:
        InvalidInput: an image's name is no file name.
    """
    for hand in hands:
        place = folder / checked_name(hand.image.name)
        place.mkdir()
        for bone, runs in zip(BONES, hand.runs, strict=True):
            mask = _drawn(runs, hand.image.height, hand.image.width)
            (place / f"{bone}.png").write_bytes(encode_png(mask))


def _drawn(runs: Runs, height: int, width: int) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), dtype=np.uint8)
    if len(runs):
        patch = patch_of(runs, height, width)
        rows, columns = patch.mask.shape
        box = mask[patch.top : patch.top + rows, patch.left : patch.left + columns]
        np.multiply(patch.mask, 255, out=box)
    return mask


def _mask(path: Path) -> NDArray[np.bool_]:
    gray = read_gray(content(path), source=str(path))
    values = np.flatnonzero(np.bincount(gray.ravel(), minlength=256))
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise InvalidInput(
            f"{path}: {len(values)} gray values, expected 0 outside and one other inside"
        )
    return gray > 0
