"""The gate on a network whose logits are known, and an engine that is wrong in one way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hbseg import rle
from hbseg.anatomy import BONES, NUM_BONES
from hbseg.config.specs import CompileSpec
from hbseg.errors import ContractError
from hbseg.ml.engines.card import Images, Logits
from hbseg.ml.engines.gate import (
    LIMITS,
    Limits,
    agreement_of,
    check_agreement,
    eager_logits,
    limits_of,
)
from hbseg.ml.engines.reference import scaled
from hbseg.ml.frame import Frame
from hbseg.ml.native import native_runs
from tests.engines import BATCH, SIZE, LinearNetwork, engine_card, grey

BONE = BONES.index("Trapezium")
PICTURES = [grey(seed, 90, 70 + seed) for seed in range(3)]
MODEL = LinearNetwork()
LOGITS = eager_logits(MODEL, scaled(PICTURES, SIZE))

Doctor = Callable[[Logits], None]
"""Changes the logits of a batch, [n, 29, h, w], in place."""


class DoctoredEngine:
    """The network itself, with its logits changed."""

    def __init__(self, doctor: Doctor, **card: object) -> None:
        self.card = engine_card(**card)
        self._doctor = doctor

    def logits(self, images_bhw: Images) -> Logits:
        assert 1 <= len(images_bhw) <= self.card.batch_size
        logits = eager_logits(MODEL, images_bhw).copy()
        self._doctor(logits)
        return logits


def untouched(logits_bchw: Logits) -> None:
    pass


def pixel(near: bool) -> tuple[int, int]:
    """A pixel of the first picture whose logit of `BONE` is near the decision, or far from it."""
    sizes = np.abs(LOGITS[0, BONE])
    fits = (sizes > 0.5) & (sizes < 1.5) if near else sizes > 2.5
    row, column = np.argwhere(fits)[0]
    return int(row), int(column)


def adding(offset: float, *, near: bool) -> Doctor:
    """Add to one logit of the first picture of a batch."""
    row, column = pixel(near)

    def doctor(logits_bchw: Logits) -> None:
        logits_bchw[0, BONE, row, column] += offset

    return doctor


def refusal(doctor: Doctor, spec: CompileSpec) -> str:
    agreement = agreement_of(MODEL, DoctoredEngine(doctor), PICTURES)
    with pytest.raises(ContractError) as raised:
        check_agreement(agreement, spec)
    assert raised.value.step_exit_code == 76
    return str(raised.value)


def test_the_network_itself_agrees_in_every_figure() -> None:
    found = agreement_of(MODEL, DoctoredEngine(untouched), PICTURES)

    assert found.pictures == 3
    assert found.largest_difference == found.mean_difference == found.largest_near_decision == 0
    assert (found.flipped_pixels, found.flipped_share) == (0, 0)
    assert found.dice_by_bone == dict.fromkeys(BONES, 1.0)
    check_agreement(found, CompileSpec(largest_difference=1e-9, smallest_dice=1.0))


def test_a_difference_far_from_the_decision_is_told_and_does_not_count() -> None:
    found = agreement_of(MODEL, DoctoredEngine(adding(0.75, near=False)), PICTURES)

    assert found.largest_difference == pytest.approx(0.75, abs=1e-5)
    assert found.mean_difference == pytest.approx(0.75 / LOGITS.size, rel=1e-4)
    assert found.largest_near_decision == 0
    check_agreement(found, CompileSpec(largest_difference=1e-9))


def test_a_difference_near_the_decision_is_refused_with_bone_figure_limit_and_next_step() -> None:
    doctor = adding(0.25, near=True)
    found = agreement_of(MODEL, DoctoredEngine(doctor), PICTURES)

    assert found.largest_near_decision == pytest.approx(0.25, abs=1e-5)
    assert found.bone == "Trapezium"
    check_agreement(found, CompileSpec(largest_difference=0.26))
    assert refusal(doctor, CompileSpec()) == (
        "engine and network differ by 0.25 in the logits of Trapezium where |logit| < 2, accepted "
        f"for fp32 is {LIMITS['fp32'].largest_difference:g}; run: hbseg submit-compile RUN "
        "--engine eager --batch-size-eval 8, or accept it with --set largest_difference=X"
    )


def test_a_flipped_pixel_is_counted_once_in_any_batch() -> None:
    row, column = pixel(near=True)

    def flip(logits_bchw: Logits) -> None:
        logits_bchw[:, BONE, row, column] *= -1

    for batch in (1, 2, BATCH):
        found = agreement_of(MODEL, DoctoredEngine(flip, batch_size=batch), PICTURES)
        assert found.flipped_pixels == 3
        assert found.flipped_share == 3 / LOGITS.size


def test_dice_is_that_of_the_masks_at_native_size_by_bone() -> None:
    def grow(logits_bchw: Logits) -> None:
        logits_bchw[:, BONE] += 1.0

    found = agreement_of(MODEL, DoctoredEngine(grow), PICTURES)

    dices = []
    for picture, logits_chw in zip(PICTURES, LOGITS, strict=True):
        frame = Frame.of(picture.shape[0], picture.shape[1], SIZE)
        own = native_runs(logits_chw, frame)[BONE]
        other = native_runs(logits_chw + 1.0, frame)[BONE]
        dices.append(rle.dice(own, other))
    assert found.dice_by_bone["Trapezium"] == pytest.approx(float(np.mean(dices)))
    assert found.worst_bone == "Trapezium"
    assert found.mean_difference == pytest.approx(1 / NUM_BONES, rel=1e-5)
    assert sorted(found.dice_by_bone.values())[1] == 1.0
    assert refusal(
        grow, CompileSpec(precision="bf16", largest_difference=2, engine="tensorrt")
    ) == (
        f"masks of engine and network have a Dice of {np.mean(dices):.5f} for Trapezium, accepted "
        f"for bf16 is {LIMITS['bf16'].smallest_dice:g}; run: hbseg submit-compile RUN --engine "
        "tensorrt --batch-size-eval 8 --precision fp32, or accept it with --set smallest_dice=X"
    )
    check_agreement(found, CompileSpec(largest_difference=2, smallest_dice=0.1))


def test_a_bone_that_is_empty_in_both_agrees_and_in_one_does_not() -> None:
    dark = [np.zeros((80, 60), dtype=np.uint8)]

    def drawn(logits_bchw: Logits) -> None:
        logits_bchw[:, BONE, 10:20, 10:20] = 3.0

    assert min(agreement_of(MODEL, DoctoredEngine(untouched), dark).dice_by_bone.values()) == 1.0
    found = agreement_of(MODEL, DoctoredEngine(drawn), dark)
    assert found.dice_by_bone["Trapezium"] < 1e-3
    assert found.dice_by_bone["Ulna"] == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ContractError) as raised:
        agreement_of(MODEL, DoctoredEngine(adding(value, near=False)), PICTURES)
    assert str(raised.value) == (
        "the logits of the engine are not finite for Trapezium; run: hbseg submit-compile RUN "
        "--engine eager --batch-size-eval 4"
    )
    assert raised.value.step_exit_code == 76


def test_a_network_whose_logits_are_not_finite_is_told_apart() -> None:
    broken = LinearNetwork()
    broken.offset[NUM_BONES - 1] = np.nan
    with pytest.raises(ContractError, match="logits of the network are not finite for Ulna; train"):
        agreement_of(broken, DoctoredEngine(untouched), PICTURES)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_a_limit_that_is_not_set_is_that_of_the_precision(precision: str) -> None:
    def limits(**changes: object) -> Limits:
        return limits_of(
            CompileSpec.model_validate({"engine": "tensorrt", "precision": precision, **changes})
        )

    default = LIMITS[precision]
    assert limits() == default
    assert limits(largest_difference=0.5) == (0.5, default.smallest_dice)
    assert limits(smallest_dice=0.0) == (default.largest_difference, 0.0)


def test_the_limits_let_the_measured_engines_pass_and_are_looser_with_less_precision() -> None:
    measured = {"tf32": (0.023, 0.9990), "fp16": (0.025, 0.9984), "bf16": (0.187, 0.9799)}
    for precision, (difference, dice) in measured.items():
        assert LIMITS[precision].largest_difference > difference
        assert LIMITS[precision].smallest_dice < dice
    ordered = [LIMITS[name] for name in ("fp32", "tf32", "fp16", "bf16")]
    assert ordered == sorted(ordered, key=lambda one: (one.largest_difference, -one.smallest_dice))
