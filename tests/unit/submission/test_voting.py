from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hbseg import rle, submission
from hbseg.anatomy import BONES, NUM_BONES
from hbseg.errors import InvalidInput
from hbseg.submission import Image
from hbseg.submission.difference import agreements
from hbseg.submission.expected import Expected, of_one_size
from hbseg.submission.voting import MILLION, Rule, rule, vote

Mask = NDArray[np.bool_]
SIDE = 4
BALLOTS = st.integers(1, 5).flatmap(
    lambda number: st.tuples(
        st.lists(arrays(np.bool_, (3, 7)), min_size=number, max_size=number),
        st.lists(st.integers(0, 5), min_size=number, max_size=number),
        st.integers(1, 12),
    )
)


@given(BALLOTS)
@settings(deadline=None)
def test_a_sweep_over_runs_elects_the_pixels_that_counting_elects(
    given: tuple[list[Mask], list[int], int],
) -> None:
    masks, weights, needed = given
    counted = np.tensordot(weights, np.array(masks, dtype=int), axes=1) >= needed

    found = rle.elected([rle.runs_of(mask) for mask in masks], weights, needed)

    assert np.array_equal(found, rle.runs_of(counted))


def test_runs_that_touch_are_elected_as_one() -> None:
    touching = rle.from_text("1 2 3 2", 9)
    assert rle.to_text(rle.elected([touching, touching], [1, 1], 2)) == "1 4"


def size() -> Expected:
    return of_one_size(SIDE, SIDE)


def written(path: Path, codes: Mapping[str, Sequence[str]]) -> Path:
    rows = [submission.rows(Image(name), given) for name, given in codes.items()]
    path.write_text(submission.header() + "".join(rows))
    return path


def with_code(path: Path, code: str) -> Path:
    return written(path, {"a.png": [code] * NUM_BONES, "b.png": [""] * NUM_BONES})


def result(tmp_path: Path, codes: Sequence[str], of: Rule) -> dict[tuple[str, str], str]:
    paths = [with_code(tmp_path / f"{i}.csv", code) for i, code in enumerate(codes)]
    target = tmp_path / "out.csv"
    target.write_text("".join(vote(paths, of, size)))
    assert (
        submission.validate(target, [Image(name, SIDE, SIDE) for name in ("a.png", "b.png")]) == []
    )
    return {(name, bone): code for name, bone, code in submission.read(target)}


def test_the_majority_counts_and_a_tie_does_not(tmp_path: Path) -> None:
    three = result(tmp_path, ["1 4", "3 4", "5 4"], rule(3))
    assert three["a.png", "Ulna"] == "3 4"
    assert three["b.png", "Ulna"] == ""
    assert result(tmp_path, ["1 4", "3 4"], rule(2))["a.png", "Ulna"] == "3 2"


def test_weights_of_decimals_are_exact(tmp_path: Path) -> None:
    """0.1 + 0.2 is not more than half of 0.6, though it is with floating point numbers."""
    assert 0.1 + 0.2 > 0.6 / 2
    codes = ["1 4", "1 4", "9 4"]
    assert result(tmp_path, codes, rule(3, "0.1,0.2,0.3"))["a.png", "Ulna"] == ""
    assert result(tmp_path, codes, rule(3, "0.1,0.2,0.299999"))["a.png", "Ulna"] == "1 4"
    assert result(tmp_path, codes, rule(3, "0,0,1"))["a.png", "Ulna"] == "9 4"


def test_a_bone_s_threshold_counts_more_than_that_of_all_wherever_it_stands(
    tmp_path: Path,
) -> None:
    for thresholds in (["Ulna=0", "0.9"], ["0.9", "Ulna=0"]):
        found = result(tmp_path, ["1 4", "3 4"], rule(2, thresholds=thresholds))
        assert found["a.png", "Ulna"] == "1 6"
        assert found["a.png", "Radius"] == "3 2"


@given(st.lists(st.integers(0, 3 * MILLION), min_size=1, max_size=4), st.integers(0, MILLION - 1))
@settings(deadline=None)
def test_needed_is_the_least_sum_above_the_share(weights: list[int], share: int) -> None:
    if not any(weights):
        return
    text = ",".join(f"{weight // MILLION}.{weight % MILLION:06d}" for weight in weights)
    of = rule(len(weights), text, [f"0.{share:06d}"])
    limit = Fraction(share, MILLION) * sum(weights)
    assert of.weights == tuple(weights)
    assert of.needed["Ulna"] > limit >= of.needed["Ulna"] - 1


@pytest.mark.parametrize(
    ("weights", "thresholds", "reason"),
    [
        ("1,1", [], "--weights '1,1' has 2 numbers, expected 3"),
        ("1,1,x", [], "--weights: 'x', expected a number up to 999999"),
        ("1,1,-1", [], "--weights: '-1'"),
        ("1,1,nan", [], "--weights: 'nan'"),
        ("1,1,1e9999999999", [], "--weights: '1e9999999999'"),
        ("1,1," + "9" * 5000, [], "--weights: '9999"),
        ("1,1,٣", [], "--weights: '٣'"),
        ("0,0,0", [], "--weights '0,0,0' are all 0"),
        (None, ["1"], "--threshold 1 asks for more than all weights"),
        (None, ["ulna=0.5"], "unknown class 'ulna'"),
        (None, ["=0.5"], "unknown class ''"),
        (None, ["Ulna="], "--threshold: '', expected a share"),
        (None, ["0.1234567"], "at most 6 decimals"),
    ],
)
def test_a_wrong_rule_is_refused(weights: str | None, thresholds: list[str], reason: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        rule(3, weights, thresholds)
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"a.png": [""] * 29}, "b.csv: row 31: the file ends, where {a} has b.png"),
        (
            {"b.png": [""] * 29, "a.png": [""] * 29},
            "b.csv: row 2: image b.png, where {a} has a.png",
        ),
        (
            {"a.png": [""] * 29, "b.png": [""] * 29, "c.png": [""] * 29},
            "b.csv: row 60: image c.png, where {a} ends",
        ),
        ({"a.png": ["99 1"] * 29}, "b.csv: row 2 (a.png finger-1): run 99 1 leaves the picture"),
    ],
)
def test_csvs_of_other_images_or_with_a_wrong_row_are_refused(
    tmp_path: Path, other: dict[str, list[str]], reason: str
) -> None:
    first, second = with_code(tmp_path / "a.csv", "1 1"), written(tmp_path / "b.csv", other)
    for tool in (vote([first, second], rule(2), size), agreements(first, second, size)):
        with pytest.raises(InvalidInput) as raised:
            list(tool)
        assert reason.format(a=first) in str(raised.value)


def test_dice_of_two_csvs_is_that_of_their_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((2, NUM_BONES, SIDE, SIDE)) < 0.5
    masks[:, 3] = False
    first, second = (
        written(tmp_path / f"{i}.csv", {"a.png": [rle.encode(mask) for mask in masks[i]]})
        for i in range(2)
    )

    (found,) = agreements(first, second, size)

    shared, both = (masks[0] & masks[1]).sum((1, 2)), masks.sum((0, 2, 3))
    assert found.dice.tolist() == pytest.approx((2 * shared + 1e-4) / (both + 1e-4))
    assert found.dice[3] == 1
    assert found.mean == pytest.approx(sum(found.dice) / len(BONES))
