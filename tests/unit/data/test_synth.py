"""The model of the hand: anatomy, pictures and truth of single synthetic hands."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hbseg.anatomy import BONES
from hbseg.data.synth import TASK_LOOKS, WIDE_LOOKS, Looks, SyntheticHand, synthetic_hand
from hbseg.data.synth.artefacts import Side
from hbseg.data.synth.field import sample_fields, visible
from hbseg.data.synth.frame import SIZE, Points
from hbseg.data.synth.outlines import smooth
from hbseg.data.synth.person import sample_person

PLAIN = Looks()

AREA_RANGE = {  # pixels in a plain picture of an adult hand; the reference's means are inside
    "Radius": (45_000, 150_000),
    "Ulna": (22_000, 90_000),
    "finger-7": (24_000, 52_000),
    "finger-11": (22_000, 50_000),
    "finger-4": (3_000, 8_500),
    "finger-16": (2_000, 7_000),
    "Capitate": (8_000, 24_000),
    "Pisiform": (2_500, 8_000),
}


@cache
def hand(person: int, side: Side = "R", looks: Looks = PLAIN) -> SyntheticHand:
    return synthetic_hand(7, person, side, deviated_probability=0.0, looks=looks)


def mask(polygon: NDArray[np.int32]) -> NDArray[np.bool_]:
    drawn = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(drawn, [polygon], (1,))
    return drawn.astype(bool)


def covered(hand: SyntheticHand, inner: str, outer: str) -> float:
    """Share of the inner bone that lies over the outer one."""
    first, second = mask(hand.polygons[inner]), mask(hand.polygons[outer])
    return float((first & second).sum() / first.sum())


def length(hand: SyntheticHand, bone: str) -> float:
    return max(cv2.minAreaRect(hand.polygons[bone])[1])


def outline_of_a_box() -> Points:
    return np.array([(600, 500), (1400, 500), (1400, 1700), (600, 1700)], float)


def test_a_hand_has_29_bones_in_class_order_inside_the_frame() -> None:
    made = hand(1)
    assert tuple(made.polygons) == BONES
    assert made.image.shape == (SIZE, SIZE)
    assert made.image.dtype == np.uint8
    for bone, polygon in made.polygons.items():
        assert polygon.dtype == np.int32, bone
        assert len(polygon) >= 10, bone
        assert polygon.min() >= 0, bone
        assert polygon.max() < SIZE, bone


def test_the_same_hand_comes_out_twice() -> None:
    again = synthetic_hand(7, 1, "R", deviated_probability=0.0, looks=PLAIN)
    assert np.array_equal(again.image, hand(1).image)
    assert all(np.array_equal(again.polygons[b], hand(1).polygons[b]) for b in BONES)


def test_another_seed_person_or_side_gives_another_hand() -> None:
    other_seed = synthetic_hand(8, 1, "R", deviated_probability=0.0, looks=PLAIN)
    for other in (other_seed, hand(2), hand(1, "L")):
        assert not np.array_equal(other.image, hand(1).image)


@pytest.mark.parametrize("person", [1, 2])
def test_areas_are_those_of_adult_hands(person: int) -> None:
    for bone, (least, most) in AREA_RANGE.items():
        area = int(mask(hand(person).polygons[bone]).sum())
        assert least < area < most, f"{bone} of person {person}: {area}"


@pytest.mark.parametrize("person", [1, 2])
def test_bones_overlap_as_on_radiographs(person: int) -> None:
    made = hand(person)
    assert covered(made, "Pisiform", "Triquetrum") > 0.4
    assert 0.2 < covered(made, "Trapezoid", "Trapezium") < 0.8
    assert covered(made, "finger-8", "finger-12") == 0


def test_both_hands_of_a_person_share_bone_lengths() -> None:
    right, left = hand(1), hand(1, "L")
    for bone in ("finger-3", "finger-7", "finger-11", "finger-14", "finger-19"):
        assert length(left, bone) == pytest.approx(length(right, bone), rel=0.05), bone


def test_the_thumb_is_left_on_a_right_hand_and_right_on_a_left_hand() -> None:
    for made, sign in ((hand(1, "R"), -1), (hand(1, "L"), 1)):
        thumb, little = (made.polygons[b][:, 0].mean() for b in ("finger-1", "finger-16"))
        assert sign * (thumb - little) > 200


def test_a_deviated_wrist_bends_to_the_little_finger() -> None:
    bent = synthetic_hand(7, 1, "R", deviated_probability=1.0, looks=PLAIN)
    base, head = (bent.polygons[b].mean(0) for b in ("finger-11", "finger-10"))
    angle = np.degrees(np.arctan2(head[0] - base[0], base[1] - head[1]))
    assert 10 < angle < 50


def test_grey_values_match_the_task() -> None:
    images = [hand(person).image / 255 for person in (1, 2)] + [hand(1, "L").image / 255]
    assert 0.09 < np.mean([image.mean() for image in images]) < 0.17
    assert 0.12 < np.mean([image.std() for image in images]) < 0.22


def test_bone_is_brighter_than_flesh_and_flesh_than_background() -> None:
    made = hand(1)
    bone = mask(made.polygons["finger-11"])
    near = cv2.dilate(bone.astype(np.uint8), np.ones((31, 31), np.uint8)).astype(bool)
    for polygon in made.polygons.values():
        near &= ~mask(polygon)
    background = np.median(made.image[900:1000, [*range(20), *range(2028, 2048)]])
    assert background + 20 < np.median(made.image[near]) < np.median(made.image[bone]) - 15


def test_young_people_have_small_carpals_and_slim_bones() -> None:
    young = sample_person(np.random.default_rng(3), replace(PLAIN, young=1.0))
    adult = sample_person(np.random.default_rng(3), PLAIN)
    assert young.length == adult.length
    assert young.width < adult.width
    assert all(young.carpal_size[b] < adult.carpal_size[b] for b in adult.carpal_size)


def test_wide_looks_keep_all_bones_in_the_picture() -> None:
    looks = replace(WIDE_LOOKS, reframed=1.0, collimated=1.0, letterboxed=1.0)
    for person in range(1, 7):
        made = hand(person, "L" if person % 2 else "R", looks)
        for bone, polygon in made.polygons.items():
            assert mask(polygon).sum() > 600, f"{bone} of person {person}"


def test_a_letterbox_is_flat_and_no_bone_reaches_into_it() -> None:
    looks = replace(PLAIN, letterboxed=1.0, strip=0.0, marker=0.0)
    made = hand(3, "R", looks)
    bones = np.zeros((SIZE, SIZE), bool)
    for polygon in made.polygons.values():
        bones |= mask(polygon)
    flat = [line for line in (*made.image, *made.image.T) if line.min() == line.max()]
    assert flat, "no row or column has a single grey value"
    rows = made.image.min(1) == made.image.max(1)
    columns = made.image.min(0) == made.image.max(0)
    assert not bones[rows].any()
    assert not bones[:, columns].any()


def test_fields_never_hide_what_must_show() -> None:
    box = outline_of_a_box()
    looks = Looks(collimated=1.0, letterboxed=1.0)
    for seed in range(20):
        fields = sample_fields(box, looks, np.random.default_rng(seed))
        shown = visible(fields)
        assert shown is not None
        assert shown[500:1701, 600:1401].all()
        assert not shown.all()


def test_about_a_third_of_training_hands_show_an_edge() -> None:
    box = outline_of_a_box()
    rng = np.random.default_rng(0)
    edged = sum(bool(sample_fields(box, WIDE_LOOKS, rng)) for _ in range(400)) / 400
    assert 0.28 < edged < 0.45
    rng = np.random.default_rng(0)
    assert sum(bool(sample_fields(box, TASK_LOOKS, rng)) for _ in range(400)) / 400 < 0.08


def test_a_smooth_curve_passes_through_its_control_points() -> None:
    control = outline_of_a_box()
    assert np.allclose(smooth(control, 6)[::6], control)
