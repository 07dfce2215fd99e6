"""Bone: line integrals through a cortical shell around a trabecular core, bone by bone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np

from hbseg.anatomy import DISTAL_PHALANGES, FOREARM
from hbseg.data.synth.atlas import MC3_LENGTH, WRIST_PIVOT
from hbseg.data.synth.frame import SIZE, SUBPIXEL_BITS, Image, Points, blurred, subpixel, turned
from hbseg.data.synth.outlines import polyline
from hbseg.data.synth.placement import PosedHand
from hbseg.data.synth.soft_tissue import chords

MU: Final = 0.0118
"""Attenuation of compact bone for each pixel of thickness."""

CORE: Final = 0.46
"""Mineral of the trabecular core against compact bone; less in the hollow shaft."""

WEB: Final = 0.085
"""Contrast of the trabecular web against compact bone."""

TEXTURE_SIZE: Final = 1024
"""Period of the trabecular texture, pixels."""

OVERHANG: Final = 64
"""Bones are drawn this far beyond the frame, so that no cortex follows the frame's edge."""

# Control points of two bright lines, hand's frame: the dorsal rim of the radius and the hook of
# the hamate, which turns with the hand.
RADIUS_RIM: Final = ((-128, 128), (-80, 158), (-30, 172), (20, 186), (38, 196))
HAMATE_HOOK: Final = ((78, -34), (94, -22), (96, -4), (84, 6), (74, -4))


@dataclass(frozen=True)
class Build:
    """How a bone is built at each pixel of its box; arrays or plain numbers."""

    shaft: Image | float
    """1 in the hollow shaft, 0 in the spongy ends."""
    ends: Image | float
    """1 at the two joint surfaces."""
    cortex: Image | float
    """Thickness of the cortical shell, pixels."""
    depth: float
    """Thickness along the ray against the width seen."""
    line: Image | float
    """Attenuation of the bright line inside the edge."""


@dataclass(frozen=True)
class Box:
    """A rectangle of picture pixels that may reach `OVERHANG` beyond the frame."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, outline: Points) -> Box:
        """The box of an outline with some room."""
        low = np.maximum(np.floor(outline.min(0)).astype(int) - 6, -OVERHANG)
        high = np.minimum(np.ceil(outline.max(0)).astype(int) + 7, SIZE + OVERHANG)
        return cls(int(low[0]), int(low[1]), int(high[0]), int(high[1]))

    def rows(self) -> Image:
        """[height, 1] y of each row."""
        return np.arange(self.top, self.bottom, dtype=np.float32)[:, None]

    def columns(self) -> Image:
        """[1, width] x of each column."""
        return np.arange(self.left, self.right, dtype=np.float32)[None, :]

    def add_to(self, picture: Image, values: Image) -> None:
        """Adds values [height, width] of this box to the part of it inside the picture."""
        left, top = max(self.left, 0), max(self.top, 0)
        right, bottom = min(self.right, SIZE), min(self.bottom, SIZE)
        if left < right and top < bottom:
            rows = slice(top - self.top, bottom - self.top)
            columns = slice(left - self.left, right - self.left)
            picture[top:bottom, left:right] += values[rows, columns]


def add_bones(picture: Image, hand: PosedHand, texture: Image, rng: np.random.Generator) -> None:
    """Adds the attenuation of all bones, and of the thumb's sesamoid, to `picture` in place."""
    for bone, outline in hand.outlines.items():
        _add_bone(picture, bone, outline, hand, texture, rng)
    if hand.person.sesamoid:
        outline = _sesamoid(hand)
        _add_bone(picture, "sesamoid", outline, hand, texture, rng)


def add_bright_lines(picture: Image, hand: PosedHand) -> None:
    """Adds the edges that face the beam: the radius' dorsal rim and the hook of the hamate."""
    hook = turned(np.array(HAMATE_HOOK, float), hand.pose.wrist, WRIST_PIVOT)
    for control, attenuation, width in (
        (np.array(RADIUS_RIM, float), 0.26, 7),
        (hook, 0.24, 6),
    ):
        line = hand.placement.place(polyline(control, 10))
        _add_stroke(picture, line, attenuation, width * hand.scale, 2.2 * hand.scale)


def _add_stroke(
    picture: Image, line: Points, attenuation: float, width: float, blur: float
) -> None:
    room = width + 4 * blur
    box = Box.around(np.vstack([line - room, line + room]))
    stroke = np.zeros((box.bottom - box.top, box.right - box.left), np.uint8)
    path = subpixel(line - (box.left, box.top))
    thick = max(1, int(width))
    cv2.polylines(stroke, [path], False, (255,), thick, cv2.LINE_AA, SUBPIXEL_BITS)
    box.add_to(picture, blurred(stroke.astype(np.float32), blur) * np.float32(attenuation / 255))


def _sesamoid(hand: PosedHand) -> Points:
    """Outline of the small round bone beside the head of the thumb's metacarpal."""
    k = hand.scale
    centre = hand.axes["finger-3"][1] + (20 * k, 22 * k)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    outline: Points = centre + np.c_[15 * k * np.cos(angle), 18 * k * np.sin(angle)]
    return outline


def _add_bone(
    picture: Image,
    bone: str,
    outline: Points,
    hand: PosedHand,
    texture: Image,
    rng: np.random.Generator,
) -> None:
    k, box = hand.scale, Box.around(outline)
    mask = np.zeros((box.bottom - box.top, box.right - box.left), np.uint8)
    cv2.fillPoly(mask, [subpixel(outline - (box.left, box.top))], (1,), shift=SUBPIXEL_BITS)
    depth = np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 5), np.float32)
    radius = _half_width(depth)
    build = _build(bone, box, hand)
    outer = chords(depth, radius) * build.depth
    inner = chords(np.maximum(depth - build.cortex, 0), np.maximum(radius - build.cortex, 1))
    inner *= build.depth
    web = WEB * (1 - 0.75 * build.shaft) * np.minimum(inner, 60 * k)
    web *= _patch(texture, mask.shape[0], mask.shape[1], rng)
    bone_path = outer + (CORE - 1 - 0.24 * build.shaft) * inner + web
    rim = build.line * np.exp(-(((depth - 2.6 * k) / (1.9 * k)) ** 2)) + 0.05 * build.ends
    box.add_to(picture, (bone_path * MU + rim) * (mask * np.float32(hand.person.density)))


def _half_width(depth: Image) -> Image:
    """Half the local width of a bone at each pixel, from the distance to its edge.

    Made at a quarter of the resolution, where dilating is cheap.
    """
    most = float(depth.max())
    height, width = depth.shape
    size = (-(-width // 4), -(-height // 4))
    small = np.asarray(cv2.resize(depth, size, interpolation=cv2.INTER_AREA), np.float32)
    across = int(most / 2) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, across))
    small = blurred(np.asarray(cv2.dilate(small, disc), np.float32), max(0.5, most / 10))
    return np.maximum(np.asarray(cv2.resize(small, (width, height)), np.float32), depth)


def _build(bone: str, box: Box, hand: PosedHand) -> Build:
    k = hand.scale * hand.person.cortex
    if bone in hand.axes:
        return _finger_build(bone, box, hand.axes[bone], k)
    if bone in FOREARM:
        below = (box.rows() - hand.placement.centre[1]) / (hand.scale * MC3_LENGTH)
        shaft = np.clip(below - 0.35, 0, 1).astype(np.float32)
        return Build(shaft, 0.0, (3.0 + 12 * shaft) * np.float32(k), 0.80, 0.07)
    return Build(0.0, 0.0, 3.4 * k, 1.05 if bone == "Pisiform" else 0.95, 0.10)


def _finger_build(bone: str, box: Box, axis: Points, k: float) -> Build:
    """A tube with a thick cortex in the middle and spongy ends."""
    along = axis[1] - axis[0]
    step = (along / (along @ along)).astype(np.float32)
    x, y = box.columns() - np.float32(axis[0][0]), box.rows() - np.float32(axis[0][1])
    at = x * step[0] + y * step[1]
    shaft = np.exp(-np.square(np.square((at - np.float32(0.52)) * np.float32(1 / 0.24))))
    narrow = np.float32(1 / 0.035)
    ends = np.exp(-np.square(at * narrow)) + np.exp(-np.square((at - 1) * narrow))
    thickest = 8.0 * (0.55 if bone in DISTAL_PHALANGES else 1.0)
    cortex = (2.8 + thickest * shaft) * np.float32(k)
    return Build(shaft, ends, cortex, 0.92, 0.05 + 0.05 * shaft)


def _patch(texture: Image, height: int, width: int, rng: np.random.Generator) -> Image:
    """A piece of the periodic texture from a random place."""
    top, left = rng.integers(0, TEXTURE_SIZE, 2)
    rows = np.arange(top, top + height) % TEXTURE_SIZE
    columns = np.arange(left, left + width) % TEXTURE_SIZE
    patch: Image = texture[np.ix_(rows, columns)]
    return patch


@lru_cache(maxsize=2)
def trabeculae(seed: int) -> Image:
    """[1024, 1024] periodic web of trabeculae, mean 0.

    It is made of the zero crossings of band-passed noise, slightly stretched along y. One texture
    serves all hands of a seed, each bone from its own random place.
    """
    rng = np.random.default_rng([seed, 0, TEXTURE_SIZE])  # no stream of a hand has a 0 there
    noise = rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE), dtype=np.float32)
    room = 32
    noise = np.pad(noise, room, mode="wrap")
    band = blurred(noise, 2.0, 3.4) - blurred(noise, 6.5)
    band /= band.std()
    web = blurred(np.exp(-np.square(band / np.float32(0.45))), 0.8)
    web = (web - web.mean()) / web.std() * 0.7 + 0.45 * blurred(band, 0.8)
    texture = np.ascontiguousarray(web[room:-room, room:-room], np.float32)
    texture.setflags(write=False)
    return texture
