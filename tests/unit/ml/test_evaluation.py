from __future__ import annotations

import numpy as np
import pytest

from hbseg.anatomy import BONES, NUM_BONES
from hbseg.ml import evaluation
from hbseg.ml.evaluation import FIGURES, JudgedImage, Tally, TrueHand, bootstrap_means, judge
from hbseg.ml.thresholds import LEVELS
from hbseg.rle import Runs, runs_of
from hbseg.runs.results import Evaluation

NO_SUMS = np.zeros((NUM_BONES, len(LEVELS)))


def image(person: str, dice: float, **changes: object) -> JudgedImage:
    values = {
        "person": person,
        "side": "R",
        "wrist_angle": 0.0,
        "dice": (dice,) * NUM_BONES,
        "hd95_px": (4.0,) * NUM_BONES,
        "surface_dice_1px": (0.5,) * NUM_BONES,
        "surface_dice_2px": (0.75,) * NUM_BONES,
        "missed": (),
    }
    return JudgedImage.model_validate(values | changes)


def evaluated(*images: JudgedImage) -> Evaluation:
    tally = Tally()
    tally.add(images)
    return tally.evaluation(NO_SUMS)


def square(top: int, side: int = 6) -> Runs:
    mask = np.zeros((30, 30), dtype=bool)
    mask[top : top + side, 5 : 5 + side] = True
    return runs_of(mask)


def test_an_image_s_figures_say_what_is_undefined_and_what_was_missed() -> None:
    empty = np.empty((0, 2), dtype=np.int64)
    predicted = [square(5), empty, square(5), empty, *[square(9)] * 25]
    true = [square(7), square(5), empty, empty, *[square(9)] * 25]
    judged = judge(predicted, TrueHand(true, "ID1", "L", 12.5), 30, 30)
    assert judged.missed == ("finger-2",)
    assert judged.dice[0] == pytest.approx(2 * 24 / 72, abs=1e-6)
    assert judged.dice[3:] == (1.0,) * 26
    assert judged.hd95_px[:5] == (2.0, None, None, None, 0.0)
    assert judged.surface_dice_2px[:4] == (1.0, None, None, None)
    rows = judged.rows()
    assert rows[0].startswith("0.666667,2.000000,0.")
    assert rows[3:5] == ["1.000000,,,", "1.000000,0.000000,1.000000,1.000000"]


def test_the_bootstrap_draws_persons_with_all_their_values() -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 4, (7, 5)).astype(np.float64)
    sums = counts * rng.random((7, 5))
    found = bootstrap_means(sums, counts, draws=50, seed=9)
    draws = np.random.default_rng(9).multinomial(7, np.full(7, 1 / 7), size=50)
    for drawn, means in zip(draws, found, strict=True):
        persons = np.repeat(np.arange(7), drawn)
        for column in range(5):
            total = counts[persons, column].sum()
            expected = sums[persons, column].sum() / total if total else np.nan
            assert means[column] == pytest.approx(expected, nan_ok=True)


def test_draws_in_small_groups_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, counts = np.random.default_rng(0).random((6, 3)), np.ones((6, 3))
    at_once = bootstrap_means(sums, counts, draws=40)
    monkeypatch.setattr(evaluation, "_CHUNK", 42)
    assert np.array_equal(bootstrap_means(sums, counts, draws=40), at_once)


def test_intervals_are_as_wide_as_persons_differ() -> None:
    dice = np.random.default_rng(1).normal(0.8, 0.1, 40).clip(0, 1)
    hands = [image(f"ID{number}", value) for number, value in enumerate(dice) for _ in range(2)]
    found = evaluated(*hands).scores.dice
    error = dice.std() / np.sqrt(40)  # of persons: two equal hands are no two samples
    assert found.mean == pytest.approx(dice.mean(), abs=1e-6)
    assert found.mean - found.low == pytest.approx(1.96 * error, rel=0.15)
    assert found.high - found.mean == pytest.approx(1.96 * error, rel=0.15)


def test_the_mean_is_over_images_and_not_over_persons() -> None:
    found = evaluated(image("a", 1.0), image("a", 1.0), image("a", 1.0), image("b", 0.0))
    assert found.scores.dice.mean == 0.75
    assert (found.images, found.persons) == (4, 2)
    assert (found.scores.dice.low, found.scores.dice.high) == (0.0, 1.0)


def test_what_no_image_has_is_none_and_what_some_have_is_their_mean() -> None:
    first = dict.fromkeys(FIGURES[1:], (None, 3.0) + (2.0,) * 27)
    second = dict.fromkeys(FIGURES[1:], (None, None) + (2.0,) * 27)
    found = evaluated(image("a", 0.5, **first, missed=("finger-1",)), image("b", 0.5, **second))
    assert [bone.bone for bone in found.bones] == list(BONES)
    assert found.bones[0].scores.hd95_px is None
    assert found.bones[0].missed == 1
    of_some = found.bones[1].scores.surface_dice_1px
    assert of_some is not None
    assert (of_some.mean, of_some.low, of_some.high) == (3.0, 3.0, 3.0)


def test_slices_are_those_that_have_images_in_their_order() -> None:
    hands = [
        image("a", 0.9, side="R", wrist_angle=-10.01),
        image("a", 0.8, side="L", wrist_angle=-10.0),
        image("b", 0.7, side="R", wrist_angle=9.99),
        image("b", 0.6, side="R", wrist_angle=None),
        image("c", 0.5, side="R", wrist_angle=31.0),
    ]
    found = evaluated(*hands)
    assert [(s.by, s.name, s.images, round(s.scores.dice.mean, 6)) for s in found.slices] == [
        ("side", "left", 1, 0.8),
        ("side", "right", 4, 0.675),
        ("wrist angle", "-30 to -10 degrees", 1, 0.9),
        ("wrist angle", "-10 to 10 degrees", 2, 0.75),
        ("wrist angle", "30 to 50 degrees", 1, 0.5),
    ]


def test_thresholds_come_with_the_mean_dice_that_they_reach() -> None:
    tally = Tally()
    tally.add([image("a", 0.5), image("b", 0.5)])
    sums = np.full((NUM_BONES, len(LEVELS)), 1.0)
    sums[0, LEVELS.index(0.3)] = 1.8
    found = tally.evaluation(sums)
    assert list(found.thresholds) == list(BONES)
    assert (found.thresholds["finger-1"], found.thresholds["Ulna"]) == (0.3, 0.5)
    assert found.dice_at_thresholds == pytest.approx((0.9 + 28 * 0.5) / 29, abs=1e-6)


def test_equal_images_give_equal_bytes_in_any_order() -> None:
    rng = np.random.default_rng(2)
    hands = [image(f"ID{n % 5}", rng.random(), side="LR"[n % 2]) for n in range(10)]
    assert evaluated(*hands).to_json() == evaluated(*hands[::-1]).to_json()
