"""Hands of a page: how large pictures are, and how many fit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hbseg.anatomy import BONES, INDEX
from hbseg.report import hands
from hbseg.report.hands import (
    PAGE_BYTES,
    as_jpeg,
    draw_hand,
    fitting,
    fitting_in_turn,
    page_bytes,
    share_of_page,
)
from hbseg.rle import Runs, dice, encode, from_text
from tests.unit.report.conftest import hand

SIDE = 300
NOISE = np.random.default_rng(0).integers(0, 256, (1200, 1000), dtype=np.uint8)


def runs(columns: slice) -> list[Runs]:
    """The Ulna's mask alone: a block of columns."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[40:200, columns] = True
    empty = np.empty((0, 2), dtype=np.int64)
    ulna = from_text(encode(mask), mask.size)
    return [ulna if bone == "Ulna" else empty for bone in BONES]


def test_a_hand_has_truth_and_differences_of_each_bone_where_the_truth_is_known() -> None:
    gray = np.full((SIDE, SIDE), 90, dtype=np.uint8)
    predicted, truth = runs(slice(50, 150)), runs(slice(60, 160))
    made = draw_hand("a.png", gray, predicted, limit=10**6, truth=truth, dice={"Ulna": 0.9})
    ulna = made.shapes[INDEX["Ulna"]]
    assert ulna.prediction == "M50 40l0 159 99 0 0-159z"
    assert ulna.truth == "M60 40l0 159 99 0 0-159z"
    assert ulna.extra == "M50 40l0 159 9 0 0-159z"
    assert ulna.missed == "M150 40l0 159 9 0 0-159z"
    assert dice(predicted[-1], truth[-1]) == pytest.approx(0.9)
    assert made.dice == 0.9
    assert len(made.missing) == len(BONES) - 1


def test_the_picture_of_a_hand_is_gray() -> None:
    gray = np.tile(np.arange(SIDE, dtype=np.uint8), (SIDE, 1))
    made = draw_hand("a.png", gray, runs(slice(50, 150)), limit=10**6)
    shown = cv2.imdecode(np.frombuffer(made.jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown is not None
    assert shown.shape == (SIDE, SIDE)
    assert not any(shape.truth for shape in made.shapes)


def test_pictures_keep_to_their_share_even_where_they_are_noise() -> None:
    assert as_jpeg(NOISE, 10**7)[1] == 1200  # never enlarged
    jpeg, side = as_jpeg(NOISE, 500_000)
    assert len(jpeg) <= 500_000
    assert side == 900
    assert as_jpeg(NOISE, 10)[1] == 700  # the smallest, whatever it takes


def test_hands_that_do_not_fit_any_more_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [hand(f"{number}.png") for number in range(5)]
    assert fitting(drawn) == drawn
    monkeypatch.setattr(hands, "PAGE_BYTES", 3 * page_bytes(drawn[0]))
    assert fitting(drawn) == drawn[:3]
    monkeypatch.setattr(hands, "PAGE_BYTES", 3 * page_bytes(drawn[0]) - 1)
    assert fitting(drawn) == drawn[:2]


def test_groups_that_do_not_fit_keep_their_first_hands_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = tuple(hand(f"{n}.png") for n in range(4)), (hand("x.png"),)
    assert fitting_in_turn(one, two, ()) == [one, two, ()]
    for room, kept in enumerate([(0, 0), (1, 0), (1, 1), (2, 1), (3, 1), (4, 1)]):
        monkeypatch.setattr(hands, "PAGE_BYTES", room * page_bytes(one[0]))
        assert fitting_in_turn(one, two) == [one[: kept[0]], two[: kept[1]]]


def test_shares_of_a_page_leave_room_for_outlines() -> None:
    assert share_of_page(10) * 10 * 4 / 3 < PAGE_BYTES - 10 * 10_000
    assert share_of_page(0) == share_of_page(1)
