from __future__ import annotations

import cv2
import numpy as np
import pytest

from hbseg.anatomy import BONES, INDEX, RAYS
from hbseg.ml.flags import (
    CONFIDENCE_LIMIT,
    FAR_LIMIT,
    LEVELS,
    NEIGHBOURS,
    SPLIT_LIMIT,
    flagged_image,
    flags_of,
    in_order,
)
from hbseg.ml.pieces import second_part
from hbseg.rle import Runs, runs_of
from hbseg.runs.results import Flag, FlaggedImage, FlagKind
from hbseg.submission import Image

from .hands import SIDE, Outlines, drawn, mirrored, posed, turned

SURE = [0.95] * len(BONES)
ONE_PART = [0.0] * len(BONES)
EMPTY = np.empty((0, 2), dtype=np.int64)


def flags(runs: list[Runs]) -> list[tuple[str, str]]:
    return [(flag.kind.value, flag.bone) for flag in found(runs)]


def found(runs: list[Runs], sure: list[float] = SURE) -> tuple[Flag, ...]:
    second_parts = [second_part(of_bone, SIDE, SIDE) for of_bone in runs]
    return flags_of(runs, sure, second_parts, SIDE, SIDE)


def swapped(outlines: Outlines, first: str, second: str) -> Outlines:
    return outlines | {first: outlines[second], second: outlines[first]}


@pytest.mark.parametrize("person", range(1, 21))
def test_true_masks_have_no_flags_whatever_side_and_rotation(person: int) -> None:
    outlines, _ = posed(person)
    degrees = float(np.random.default_rng(person).uniform(0, 360))
    for hand in (outlines, mirrored(outlines), turned(outlines, degrees)):
        assert flags(drawn(hand)) == []
    assert flags(drawn(mirrored(turned(outlines, 360 - degrees)))) == []


def test_an_empty_mask_is_flagged_and_nothing_else_follows_from_it() -> None:
    for bone in BONES:
        runs = drawn(posed(3)[0])
        runs[INDEX[bone]] = EMPTY
        assert flags(runs) == [("missing", bone)]


def test_a_picture_without_any_mask_is_flagged_for_each_bone() -> None:
    assert flags([EMPTY] * len(BONES)) == [("missing", bone) for bone in BONES]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("view", ["upright", "turned", "mirrored"])
def test_two_fingers_in_the_place_of_each_other_are_out_of_order(place: int, view: str) -> None:
    outlines, _ = posed(6)
    hand = {"upright": outlines, "turned": turned(outlines, 130), "mirrored": mirrored(outlines)}
    rays = list(RAYS.values())[place : place + 2]
    for bones in LEVELS.values():
        pair = [bone for bone in bones if bone in (*rays[0], *rays[1])]
        if len(pair) == 2 and pair != ["finger-1", "finger-4"]:  # tips at different heights: far
            assert ("ray-order", pair[0]) in flags(drawn(swapped(hand[view], *pair)))


def test_the_bone_that_is_named_is_the_one_that_left_the_order() -> None:
    outlines, _ = posed(2)
    there = outlines["finger-16"].mean(0) - outlines["finger-4"].mean(0) + np.array([20, 0])
    told = flags(drawn(outlines | {"finger-4": outlines["finger-4"] + there}))
    assert told[0] in [("ray-order", "finger-4"), ("far", "finger-4")]
    assert {bone for _, bone in told} == {"finger-4"}


def moved(outlines: Outlines, bones: tuple[str, ...], away_from: str, pixels: float) -> Outlines:
    """The hand with bones moved away from another one."""
    direction = outlines[bones[0]].mean(0) - outlines[away_from].mean(0)
    step = pixels * direction / np.hypot(*direction)
    return outlines | {bone: outlines[bone] + step for bone in bones}


@pytest.mark.parametrize(
    ("bone", "neighbour"),
    [("finger-1", "finger-2"), ("finger-16", "finger-17"), ("Pisiform", "Lunate"),
     ("Ulna", "Radius")],
)  # fmt: skip
def test_a_bone_far_from_its_neighbours_is_flagged(bone: str, neighbour: str) -> None:
    outlines = turned(posed(5)[0], 20)
    assert flags(drawn(moved(outlines, (bone,), neighbour, 6))) == []
    assert ("far", bone) in flags(drawn(moved(outlines, (bone,), neighbour, 45)))


def test_a_finger_that_is_cut_off_is_flagged_once_where_it_is_cut() -> None:
    outlines = turned(posed(5)[0], 0)
    cut = moved(outlines, ("finger-9", "finger-8"), "finger-10", 60)
    assert flags(drawn(cut)) == [("far", "finger-9")]


def test_a_bone_between_two_gaps_is_told_of_both() -> None:
    outlines = turned(posed(5)[0], 0)
    cut = moved(outlines, ("finger-9", "finger-8"), "finger-10", 30)
    cut = moved(cut, ("finger-8",), "finger-9", 45)
    assert flags(drawn(cut)) == [("far", "finger-8"), ("far", "finger-9")]


def test_the_gap_over_a_missing_bone_is_no_distance() -> None:
    runs = drawn(turned(posed(5)[0], 0))
    runs[INDEX["finger-9"]] = EMPTY
    assert flags(runs) == [("missing", "finger-9")]


def test_every_bone_has_a_neighbour_and_all_are_one_hand() -> None:
    reached = {"Capitate"}
    while more := {b for pair in NEIGHBOURS for b in pair if reached & {*pair}} - reached:
        reached |= more
    assert reached == set(BONES)


def with_part(outlines: Outlines, bone: str, share: float) -> list[Runs]:
    """The bone with a second part beside it, of a share of its area."""
    runs = drawn(outlines)
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    cv2.fillPoly(mask, [np.round(outlines[bone]).astype(np.int32)], 1)
    area = int(mask.sum())
    x, y = (int(value) for value in outlines[bone].max(0))
    rows = 12
    mask[y + 3 : y + 3 + rows, x + 3 : x + 3 + round(share * area / rows)] = 1
    runs[INDEX[bone]] = runs_of(mask.astype(bool))
    return runs


def test_a_large_second_part_is_flagged_and_a_small_one_is_not() -> None:
    outlines = turned(posed(8)[0], 15)
    assert flags(with_part(outlines, "finger-7", SPLIT_LIMIT - 0.03)) == []
    assert flags(with_part(outlines, "finger-7", SPLIT_LIMIT + 0.03)) == [("split", "finger-7")]


def test_a_bone_that_the_network_is_unsure_of_is_flagged() -> None:
    runs = drawn(posed(1)[0])
    sure = [*SURE[:-1], CONFIDENCE_LIMIT]
    assert found(runs, sure) == ()
    (flag,) = found(runs, [*SURE[:-1], 0.6])
    assert (flag.kind, flag.bone) == (FlagKind.LOW_CONFIDENCE, "Ulna")
    assert flag.text == "the mean probability of Ulna is 0.60"
    assert flag.severity == pytest.approx(1 - 0.35 / 0.4, abs=1e-4)


def test_a_mask_of_a_low_threshold_says_that_no_pixel_is_likely() -> None:
    (flag,) = found(drawn(posed(1)[0]), [*SURE[:-1], 0.42])
    assert flag.text == "the largest probability of Ulna is 0.42"


def test_a_second_part_that_was_left_out_of_the_mask_is_flagged() -> None:
    runs = drawn(posed(1)[0])
    (flag,) = flags_of(runs, SURE, [*ONE_PART[:-1], 0.9], SIDE, SIDE)
    assert (flag.kind, flag.bone) == (FlagKind.SPLIT, "Ulna")


def test_severity_rises_with_what_is_beyond_the_limit() -> None:
    outlines = turned(posed(5)[0], 0)
    severities = []
    for shift in (30, 45, 60):
        runs = drawn(moved(outlines, ("finger-8",), "finger-9", shift))
        (flag,) = found(runs)
        severities.append(flag.severity)
    assert 0 < severities[0] < severities[1] < severities[2] < 1
    assert "bone sizes from finger-9" in flag.text
    assert float(flag.text.split()[2]) > FAR_LIMIT


def test_the_most_severe_images_come_first() -> None:
    def image(name: str, *severities: float) -> FlaggedImage:
        made = [
            Flag(kind=FlagKind.FAR, bone="Ulna", severity=severity, text="far")
            for severity in severities
        ]
        return FlaggedImage(image=name, flags=tuple(made))

    images = [image("c", 0.4), image("d", 0.9), image("b", 0.4, 0.4), image("a", 0.2, 0.1, 0.1)]
    images.append(image("0", 0.4))
    assert [one.image for one in in_order(images)] == ["d", "b", "0", "c", "a"]


def test_an_image_without_flags_is_left_out() -> None:
    runs = drawn(posed(1)[0])
    named = Image("test/DCM/ID1/hand.png", SIDE, SIDE)
    assert flagged_image(named, runs, SURE, ONE_PART) == []
    runs[0] = EMPTY
    (flagged,) = flagged_image(named, runs, SURE, ONE_PART)
    assert flagged.image == "hand.png"
