from __future__ import annotations

import numpy as np
import pytest

from hbseg.anatomy import INDEX
from hbseg.ml.bone_shape import bone_shape, wrist_angle
from hbseg.rle import runs_of

from .hands import SIDE, Outlines, drawn, mirrored, posed, turned


def angle(outlines: Outlines) -> float:
    found = wrist_angle(drawn(outlines), SIDE, SIDE)
    assert found is not None
    return found


def test_a_shape_has_the_moments_of_its_pixels() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    for step in range(20):
        mask[10 + step, 5 + 2 * step : 9 + 2 * step] = True
    shape = bone_shape(runs_of(mask), 40, 60)
    assert shape is not None
    assert shape.area == mask.sum()
    y, x = np.nonzero(mask)
    assert shape.centre == pytest.approx([x.mean(), y.mean()])
    assert abs(shape.axis @ [2, 1]) / np.sqrt(5) == pytest.approx(1, abs=1e-3)


def test_an_empty_mask_has_no_shape() -> None:
    assert bone_shape(np.empty((0, 2), dtype=np.int64), 9, 9) is None


def test_the_wrist_angle_follows_the_pose() -> None:
    hands = [posed(person) for person in range(1, 25)]
    found = np.array([angle(outlines) for outlines, _ in hands])
    bent = np.array([pose.wrist for _, pose in hands])
    assert np.ptp(bent) > 25  # straight and bent wrists are among them
    offset = found - bent  # of the third metacarpal, which is no part of the pose's angle
    assert abs(offset.mean()) < 8
    assert np.abs(offset - offset.mean()).max() < 6


@pytest.mark.parametrize("degrees", [35, 90, 180, 290])
def test_neither_rotation_nor_the_side_changes_the_angle(degrees: float) -> None:
    outlines, _ = posed(4)
    straight = angle(turned(outlines, 0))
    assert angle(turned(outlines, degrees)) == pytest.approx(straight, abs=0.5)
    assert angle(mirrored(turned(outlines, degrees))) == pytest.approx(straight, abs=0.5)


@pytest.mark.parametrize("bone", ["Radius", "Ulna", "finger-11"])
def test_there_is_no_angle_without_one_of_its_bones(bone: str) -> None:
    runs = drawn(posed(1)[0])
    runs[INDEX[bone]] = np.empty((0, 2), dtype=np.int64)
    assert wrist_angle(runs, SIDE, SIDE) is None
