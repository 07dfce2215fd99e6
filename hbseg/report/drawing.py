"""Overlays of many pictures, as PNG files in a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from hbseg.data.picture_folder import PictureFolder
from hbseg.data.pictures import encode_png
from hbseg.errors import InvalidInput
from hbseg.report.overlay import draw_overlay
from hbseg.storage.files import write_atomically
from hbseg.submission.scanning import Hand


def draw_overlays(hands: Iterable[Hand], pictures: PictureFolder, folder: Path) -> Iterator[Path]:
    """Write the overlay of each hand into a folder; yield its path when it is there.

    Raises:
        InvalidInput: there is no such picture, it cannot be read, or its masks leave it.
        DeniedError, DiskFullError: it cannot be written.
    """
    names = overlay_names(pictures.paths)
    for hand in hands:
        name = hand.image.name
        gray = pictures.gray(name)
        try:
            drawn = draw_overlay(gray, hand.runs)
        except ValueError as error:
            raise InvalidInput(f"{name}: {error}") from None
        target = folder / names[name]
        write_atomically(target, encode_png(drawn))
        yield target


def overlay_names(names: Collection[str]) -> dict[str, str]:
    """Return the overlay's file name for each picture's, which differ in more than the ending."""
    stems = Counter(Path(name).stem for name in names)
    return {
        name: f"{Path(name).stem if stems[Path(name).stem] == 1 else name}.png" for name in names
    }
