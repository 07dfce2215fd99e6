"""Numbers of the hand: lengths, widths and angles of its bones, outlines of carpals and forearm.

Lengths and angles: means and standard deviations over 910 hands of the Digital Hand Atlas (37
expert landmarks each). Widths, carpals, Radius and Ulna: drawn by hand after public plots of the
task. All in the hand's frame (see `frame`): a right hand, pixels at a third metacarpal of 450.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MC3_LENGTH: Final = 450.0
"""Mean length of the third metacarpal in a picture of 2048 pixels."""


class LongBone(NamedTuple):
    """A phalanx or metacarpal: length as a share of `MC3_LENGTH`, widths in pixels."""

    length: float
    length_sd: float
    base: float
    waist: float
    head: float


class Angle(NamedTuple):
    """Mean and standard deviation in degrees.

    Against the third metacarpal; the thumb is at the left, hence negative.
    """

    mean: float
    sd: float


def _points(text: str) -> list[tuple[int, int]]:
    """Points from "x,y x,y ..."."""
    pairs = (point.split(",") for point in text.split())
    return [(int(x), int(y)) for x, y in pairs]


LONG_BONES: Final = {
    "finger-1": LongBone(0.325, 0.022, 74, 42, 44),
    "finger-2": LongBone(0.490, 0.028, 98, 56, 76),
    "finger-3": LongBone(0.690, 0.031, 112, 74, 96),
    "finger-4": LongBone(0.235, 0.015, 66, 38, 46),
    "finger-5": LongBone(0.357, 0.021, 82, 56, 66),
    "finger-6": LongBone(0.640, 0.026, 110, 60, 76),
    "finger-7": LongBone(1.040, 0.023, 112, 57, 104),
    "finger-8": LongBone(0.270, 0.017, 70, 42, 49),
    "finger-9": LongBone(0.430, 0.024, 87, 60, 68),
    "finger-10": LongBone(0.705, 0.027, 107, 59, 77),
    "finger-11": LongBone(1.000, 0.015, 102, 54, 103),
    "finger-12": LongBone(0.285, 0.017, 68, 41, 49),
    "finger-13": LongBone(0.405, 0.023, 79, 50, 66),
    "finger-14": LongBone(0.655, 0.025, 95, 53, 71),
    "finger-15": LongBone(0.890, 0.018, 84, 43, 83),
    "finger-16": LongBone(0.235, 0.016, 55, 31, 36),
    "finger-17": LongBone(0.290, 0.027, 66, 44, 56),
    "finger-18": LongBone(0.535, 0.022, 90, 51, 62),
    "finger-19": LongBone(0.820, 0.023, 92, 55, 86),
}

METACARPAL_BASE: Final = {
    "thumb": (-198, -22),
    "index": (-88, -48),
    "middle": (0, -72),
    "ring": (80, -50),
    "little": (124, -24),
}
"""Where each metacarpal meets the carpus."""

METACARPAL_ANGLE: Final = {
    "thumb": Angle(-36.6, 6.6),
    "index": Angle(-7.0, 1.6),
    "middle": Angle(3.0, 1.5),
    "ring": Angle(12.5, 1.8),
    "little": Angle(22.5, 2.7),
}

PROXIMAL_PHALANX_ANGLE: Final = {
    "thumb": Angle(-28, 9),
    "index": Angle(-10, 4),
    "middle": Angle(-1, 3.5),
    "ring": Angle(9, 4),
    "little": Angle(24, 7),
}

NEXT_PHALANX_TURN: Final = {
    "thumb": Angle(-2, 6),
    "index": Angle(1.5, 2.5),
    "middle": Angle(0.5, 2.5),
    "ring": Angle(-0.5, 2.5),
    "little": Angle(-1, 3.5),
}
"""How far each further phalanx turns against the one before it."""

WRIST_PIVOT: Final = (10.0, 110.0)
"""The point around which the hand turns when the wrist deviates (in the lunate)."""

DISTAL_ROW: Final = ("Capitate", "Hamate", "Trapezoid", "Trapezium")
"""Carpals that turn with the metacarpals; the proximal row follows 0.62 of the way."""

CARPAL_OUTLINE: Final = {
    "Capitate": _points(
        "-46,-66 -8,-82 36,-92 50,-74 38,-48 36,-10 32,40 22,70 -8,84 -38,76 -52,44 -42,4 -52,-34"
    ),
    "Hamate": _points("42,-50 66,-56 108,-46 130,-30 124,-8 100,24 70,56 50,70 40,40 36,0"),
    "Trapezoid": _points(
        "-118,-84 -92,-86 -62,-66 -46,-50 -50,-18 -74,-6 -104,-4 -126,-26 -130,-58"
    ),
    "Trapezium": _points(
        "-164,-76 -138,-84 -118,-66 -112,-32 -88,6 -100,26 -130,38 -164,28 -180,4 -172,-26 -178,-54"
    ),
    "Scaphoid": _points(
        "-104,6 -78,4 -66,28 -44,50 -30,82 -28,112 -46,128 -78,126 -104,104 -130,66 -126,36"
    ),
    "Lunate": _points("-44,80 -14,70 26,70 46,92 64,124 56,150 18,162 -18,152 -36,128 -40,100"),
    "Triquetrum": _points("62,78 94,44 122,30 144,46 146,74 122,98 92,122 72,118 52,98"),
    "Pisiform": _points("80,84 100,66 124,66 138,84 130,108 108,126 84,122 72,104"),
}
"""Control points of closed Catmull-Rom curves."""

CARPAL_SIZE: Final = {
    "Lunate": 0.97,
    "Capitate": 1.03,
    "Hamate": 1.16,
    "Triquetrum": 1.18,
    "Trapezium": 1.11,
    "Trapezoid": 1.03,
    "Pisiform": 1.09,
    "Scaphoid": 1.09,
}
"""Factor on the drawn outlines that gives the task's areas and overlaps."""

CARPAL_SHIFT: Final = {
    "Trapezoid": (-14, 4),
    "Pisiform": (3, -3),
    "Hamate": (2, -2),
    "Triquetrum": (3, -2),
}
"""Shift of the drawn outlines, pixels, for the same reason."""

FOREARM_OUTLINE: Final = {
    "Radius": _points(
        "-168,122 -154,96 -136,88 -112,104 -78,128 -40,140 -4,146 34,164 44,186 "
        "46,216 34,250 14,290 2,360 -6,470 -8,900 -8,2600 -92,2600 -92,900 "
        "-98,560 -112,420 -134,300 -158,200"
    ),
    "Ulna": _points(
        "58,214 80,200 110,202 136,204 150,190 160,178 174,190 176,230 168,300 "
        "160,380 156,500 150,900 150,2600 72,2600 72,900 76,560 78,440 72,330 "
        "58,268 48,238"
    ),
}
"""Control points; the shafts run on far below, so that they leave every picture."""
