"""A radiograph with its 29 masks drawn on it.

Shapes: H, W height and width of the picture; h, w of a bone's box. Colours are RGB, 0 to 255.
Masks stay runs until a bone's box is known: nothing but the picture itself has full size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.anatomy import BONES, COLOURS, NUM_BONES
from hbseg.rle import Patch, Runs, patch_of

Bytes = NDArray[np.uint8]
Colour = tuple[int, int, int]

FILL: Final = 0.36
"""Opacity of the fill."""
FILL_TEXTURE: Final = 0.6
"""Share of the fill's brightness that follows the radiograph, so that trabeculae stay visible."""
OUTLINE: Final = 0.95
"""Opacity of the outline."""
MIN_LUMA: Final = 120
"""Outlines are lightened to at least this luma (0 to 255): pure blue is lost on a dark film."""
LINE_PER_SIDE: Final = 1 / 600
"""Width of the outline, as a fraction of the picture's geometric mean side: 3.4 px at 2048."""
RIM: Final = 3
"""The outline lies inside its mask; its soft edge reaches at most so many line widths outside."""

_DARK_PERCENTILE, _BRIGHT_PERCENTILE = 1.0, 99.7
_MAX_GAIN = 1.8
_MIDDLE = 0.36
"""Brightness that the median of what is not background is brought towards."""
_GAMMA = (0.65, 1.2)


def draw_overlay(gray: Bytes, runs: Sequence[Runs]) -> Bytes:
    """Return the radiograph with its masks, uint8 [H, W, 3], RGB.

    `gray` is uint8 [H, W]; `runs` are the 29 bones' in class order, each for H x W pixels. Fills
    are translucent and blend where bones overlap; all outlines lie above all fills. What is
    farther than `RIM` line widths from every mask is the stretched radiograph.

    Raises:
        ValueError: not 29 masks, or runs that leave the picture.
    """
    if len(runs) != NUM_BONES:
        raise ValueError(f"{len(runs)} masks, expected {NUM_BONES}")
    height, width = gray.shape
    picture = cv2.cvtColor(stretched(gray), cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)
    line = line_width(height, width)
    patches = [
        (patch_of(bone_runs, height, width), COLOURS[bone])
        for bone, bone_runs in zip(BONES, runs, strict=True)
        if len(bone_runs)
    ]
    for patch, colour in patches:
        _fill(picture, patch, colour)
    for patch, colour in patches:
        _outline(picture, patch, colour, line)
    return picture


def line_width(height: int, width: int) -> float:
    """Return the outline's width in pixels for a picture of this size; at least 1."""
    return max(1.0, math.sqrt(height * width) * LINE_PER_SIDE)


def outline_colour(colour: Colour) -> Colour:
    """Return `colour`, mixed with so much white that it has `MIN_LUMA` (weights of BT.601)."""
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    white = max(0.0, (MIN_LUMA - luma) / (255 - luma)) if luma < 255 else 0.0
    red, green, blue = (round(channel + (255 - channel) * white) for channel in colour)
    return red, green, blue


def stretched(gray: Bytes) -> Bytes:
    """Return `gray`, uint8 [H, W], with a gentle monotone stretch of its contrast.

    Percentiles become black and white, with a gain of at most 1.8, and a mild gamma brings the
    median of the brighter half to a middle gray: dark films open up, a good one hardly changes.
    """
    histogram = np.bincount(gray[::2, ::2].ravel(), minlength=256)
    dark, bright = _percentiles(histogram, (_DARK_PERCENTILE, _BRIGHT_PERCENTILE))
    span = max(bright - dark, 255 / _MAX_GAIN)
    levels = np.clip((np.arange(256) - dark) / span, 0, 1)
    (middle,) = _percentiles(histogram * (np.arange(256) > (dark + bright) / 8), (50,))
    level = float(np.clip(levels[int(middle)], 0.02, 0.98))
    gamma = float(np.clip(math.log(_MIDDLE) / math.log(level), *_GAMMA))
    table = np.rint(255 * levels**gamma).astype(np.uint8)
    return np.asarray(cv2.LUT(gray, table), dtype=np.uint8)


def _percentiles(histogram: NDArray[np.integer], percents: Sequence[float]) -> list[float]:
    total = np.cumsum(histogram)
    wanted = [total[-1] * percent / 100 for percent in percents]
    return [float(min(np.searchsorted(total, value), 255)) for value in wanted]


def _fill(picture: Bytes, patch: Patch, colour: Colour) -> None:
    """Tint the mask's pixels in place; the tint keeps part of the radiograph's texture."""
    height, width = patch.mask.shape
    box = picture[patch.top : patch.top + height, patch.left : patch.left + width]
    level = np.arange(256, dtype=np.float32)[:, None]
    tint = np.array(colour, dtype=np.float32) * (1 - FILL_TEXTURE + FILL_TEXTURE * level / 160)
    table = np.clip(level * (1 - FILL) + tint * FILL, 0, 255).astype(np.uint8)
    tinted = cv2.LUT(box, table.reshape(1, 256, 3))
    np.copyto(box, tinted, where=patch.mask[..., None].astype(bool))


def _outline(picture: Bytes, patch: Patch, colour: Colour, line: float) -> None:
    """Draw the inner edge of the mask in place, smooth and without stairs."""
    margin = math.ceil(RIM * line)
    top, left = max(patch.top - margin, 0), max(patch.left - margin, 0)
    height, width = patch.mask.shape
    box = picture[top : patch.top + height + margin, left : patch.left + width + margin]
    weight = cv2.copyMakeBorder(
        patch.mask * np.uint8(255), margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0
    )
    weight = cv2.LUT(cv2.GaussianBlur(weight, (0, 0), line), _edge_table(line))
    y, x = top - patch.top + margin, left - patch.left + margin
    alpha = weight[y : y + box.shape[0], x : x + box.shape[1]]
    solid = np.full(box.shape, outline_colour(colour), dtype=np.uint8)
    box[:] = cv2.blendLinear(solid, box, alpha, 1 - alpha)


def _edge_table(line: float) -> NDArray[np.float32]:
    """Return the outline's opacity, float32 [256], for each level of a mask blurred with `line`.

    Across a straight edge the blur is a Gaussian's integral, so a level tells the distance to the
    edge in pixels: from -0.5 outside to `line` inside there is ink, with a ramp of 1 px.
    """
    levels = (np.arange(256) + 0.5) / 256
    distances = np.linspace(-4 * line, 4 * line, 2048)
    integral = [0.5 * (1 + math.erf(d / line / math.sqrt(2))) for d in distances]
    distance = np.interp(levels, integral, distances)
    ink = np.minimum(distance + 0.5, line + 0.5 - distance)
    return (OUTLINE * np.clip(ink, 0, 1)).astype(np.float32)
