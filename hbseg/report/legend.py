"""The bones' names for people, and a legend beside a picture."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import COLOURS, GROUPS, RAYS

Bytes = NDArray[np.uint8]

_BACKGROUND: Final = (22, 24, 28)
_INK: Final = (226, 229, 233)
_FAINT: Final = (142, 149, 158)
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_ROWS_PER_HEIGHT: Final = 46
_MIN_ROW: Final = 15
"""Height of a line of text in pixels below which it cannot be read."""
_LETTER: Final = 1 / 34
"""Size of the letters (OpenCV's scale) in a line of 1 pixel."""


def _finger_names() -> dict[str, str]:
    phalanges = {3: ("distal",), 4: ("distal", "middle")}
    names: dict[str, str] = {}
    for ray, bones in RAYS.items():
        kinds = (*phalanges[len(bones)], "proximal")
        names |= {bone: f"{kind} phalanx, {ray}" for bone, kind in zip(bones, kinds, strict=False)}
        names[bones[-1]] = f"{ray} metacarpal"
    return names


FULL_NAMES: Final = {
    bone: _finger_names().get(bone, bone) for bones in GROUPS.values() for bone in bones
}
"""What a bone is called in anatomy, e.g. `middle phalanx, index` for `finger-5`."""


def with_legend(picture: Bytes) -> Bytes:
    """Return `picture`, uint8 [H, W, 3] RGB, with all bones by group in a panel to its right.

    The letters grow with the picture; one too low for readable lines is continued below in the
    panel's colour.
    """
    height = picture.shape[0]
    row = max(height / _ROWS_PER_HEIGHT, float(_MIN_ROW))
    lines = _lines()
    needed = round(row * (len(lines) + 2))
    width = max(cv2.getTextSize(text, _FONT, row * _LETTER, 2)[0][0] for _, text in lines)
    shape = (max(height, needed), round(width + 3 * row), 3)
    panel = np.full(shape, _BACKGROUND, dtype=np.uint8)
    top = (panel.shape[0] - row * len(lines)) / 2
    for number, (bone, text) in enumerate(lines):
        _write(panel, bone, text, top + (number + 0.5) * row, row)
    below = panel.shape[0] - height
    framed = cv2.copyMakeBorder(picture, 0, below, 0, 0, cv2.BORDER_CONSTANT, value=_BACKGROUND)
    return np.hstack([framed, panel]).astype(np.uint8, copy=False)


def _lines() -> list[tuple[str, str]]:
    """Return bone and text of each line; a heading has no bone, a gap has no text either."""
    lines: list[tuple[str, str]] = []
    for group, bones in GROUPS.items():
        lines += [("", "")] if lines else []
        lines += [("", group), *((bone, FULL_NAMES[bone]) for bone in bones)]
    return lines


def _write(panel: Bytes, bone: str, text: str, middle: float, row: float) -> None:
    left, baseline = round(row * 0.9), round(middle + row * 0.26)
    if bone:
        centre = (round(left + row * 0.3), round(middle))
        cv2.circle(panel, centre, round(row * 0.3), COLOURS[bone], cv2.FILLED, cv2.LINE_AA)
        left += round(row)
    thickness = max(1, round(row / 24))
    colour = _INK if bone else _FAINT
    cv2.putText(panel, text, (left, baseline), _FONT, row * _LETTER, colour, thickness, cv2.LINE_AA)
