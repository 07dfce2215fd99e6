"""The accuracy gate: an engine against its network in eager fp32, on pictures of the held-out fold.

Two things decide: the logits near the decision, where a difference may move the edge of a mask,
and the masks themselves at each picture's own size. Far from the decision fp16 and bf16 round
large logits coarsely, which changes no mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hbseg import rle
from hbseg.anatomy import BONES
from hbseg.config.specs import CompileSpec
from hbseg.errors import ContractError
from hbseg.ml.engines.card import NEAR_DECISION, Agreement, Engine, Images, Logits, compile_again
from hbseg.ml.frame import Frame
from hbseg.ml.native import native_runs
from hbseg.runs.engines import compile_flags

Picture = NDArray[np.uint8]
PerBone = NDArray[np.float64]


class Limits(NamedTuple):
    """What an engine may differ by from its network."""

    largest_difference: float
    """Largest |logit difference| near the decision."""
    smallest_dice: float
    """Smallest Dice of a bone's masks at native size, mean over the pictures."""


LIMITS: Final[Mapping[str, Limits]] = MappingProxyType(
    {
        "fp32": Limits(0.01, 0.999),
        "tf32": Limits(0.1, 0.995),
        "fp16": Limits(0.1, 0.995),
        "bf16": Limits(0.8, 0.95),
    }
)
"""By precision, three to five times what a network of the demo showed (docs/decisions.md)."""


def limits_of(spec: CompileSpec) -> Limits:
    """Return the limits of a spec: its own, else those of its precision."""
    default = LIMITS[spec.precision]
    own = (spec.largest_difference, spec.smallest_dice)
    return Limits(*(d if o is None else o for o, d in zip(own, default, strict=True)))


def agreement_of(model: nn.Module, engine: Engine, pictures: Sequence[Picture]) -> Agreement:
    """Return how an engine compares with its network.

    Args:
        model: the network, in evaluation mode, fp32, on the CPU.
        engine: what was compiled from it.
        pictures: grey levels, uint8 [height, width], at least one, each of any size.

    Raises:
        ContractError: logits of the engine or of the network are not finite.
    """
    found = [
        picture
        for start in range(0, len(pictures), engine.card.batch_size)
        for picture in _compared(model, engine, pictures[start : start + engine.card.batch_size])
    ]
    near_c = np.max([one.near_c for one in found], axis=0)
    flipped, pixels = sum(one.flipped for one in found), sum(one.pixels for one in found)
    return Agreement(
        pictures=len(found),
        largest_difference=max(one.largest for one in found),
        mean_difference=sum(one.total for one in found) / pixels,
        largest_near_decision=float(near_c.max()),
        bone=BONES[int(near_c.argmax())],
        flipped_pixels=flipped,
        flipped_share=flipped / pixels,
        dice_by_bone=_by_bone(np.mean([one.dice_c for one in found], axis=0)),
    )


def check_agreement(agreement: Agreement, spec: CompileSpec) -> None:
    """Refuse an engine that differs from its network by more than its spec accepts.

    Raises:
        ContractError: names the bone, the figure, the limit, and the next step.
    """
    limits = limits_of(spec)
    if agreement.largest_near_decision > limits.largest_difference:
        raise ContractError(
            f"engine and network differ by {agreement.largest_near_decision:.3g} in the logits of "
            f"{agreement.bone} where |logit| < {NEAR_DECISION:g}, accepted for {spec.precision} is "
            f"{limits.largest_difference:g}",
            _next_step(spec, "largest_difference"),
        )
    bone = agreement.worst_bone
    if agreement.dice_by_bone[bone] < limits.smallest_dice:
        raise ContractError(
            f"masks of engine and network have a Dice of {agreement.dice_by_bone[bone]:.5f} for "
            f"{bone}, accepted for {spec.precision} is {limits.smallest_dice:g}",
            _next_step(spec, "smallest_dice"),
        )


def eager_logits(model: nn.Module, images_bhw: Images) -> Logits:
    """Return the network's own logits, float32 [n, 29, h, w], of images uint8 [n, S, S]."""
    with torch.inference_mode():
        logits: Logits = model(torch.from_numpy(images_bhw)[:, None].float()).numpy()
    return logits


class _Compared(NamedTuple):
    """One picture through both networks."""

    largest: float
    total: float
    """Sum of all |differences|."""
    near_c: PerBone
    """Largest |difference| near the decision; 0 where no logit is near it."""
    flipped: int
    pixels: int
    """Of all bones' planes."""
    dice_c: PerBone
    """Of the masks at native size."""


def _compared(model: nn.Module, engine: Engine, pictures: Sequence[Picture]) -> Iterator[_Compared]:
    """Yield the comparison of each picture of a batch."""
    frames = [
        Frame.of(picture.shape[0], picture.shape[1], engine.card.height) for picture in pictures
    ]
    images_bhw = np.stack([f.to_network(p) for f, p in zip(frames, pictures, strict=True)])
    expected_bchw, found_bchw = eager_logits(model, images_bhw), engine.logits(images_bhw)
    _check_finite("network", expected_bchw, "train the run's stage 2 again")
    card = engine.card
    hint = _more_exact(card.backend, card.precision, card.batch_size)
    _check_finite("engine", found_bchw, hint)
    for frame, expected_chw, found_chw in zip(frames, expected_bchw, found_bchw, strict=True):
        yield _of_picture(expected_chw, found_chw, frame)


def _of_picture(expected_chw: Logits, found_chw: Logits, frame: Frame) -> _Compared:
    difference_chw = np.abs(found_chw.astype(np.float64) - expected_chw)
    near_chw = np.where(np.abs(expected_chw) < NEAR_DECISION, difference_chw, 0.0)
    masks = (native_runs(logits_chw, frame) for logits_chw in (expected_chw, found_chw))
    return _Compared(
        largest=float(difference_chw.max()),
        total=float(difference_chw.sum()),
        near_c=near_chw.max(axis=(1, 2)),
        flipped=int(((found_chw > 0) != (expected_chw > 0)).sum()),
        pixels=difference_chw.size,
        dice_c=np.array([rle.dice(*pair) for pair in zip(*masks, strict=True)]),
    )


def _check_finite(what: str, logits_bchw: Logits, hint: str) -> None:
    bad_c = ~np.isfinite(logits_bchw).all(axis=(0, 2, 3))
    if bad_c.any():
        raise ContractError(
            f"the logits of the {what} are not finite for {BONES[int(bad_c.argmax())]}", hint
        )


def _by_bone(dice_c: PerBone) -> dict[str, float]:
    return dict(zip(BONES, dice_c.tolist(), strict=True))


def _next_step(spec: CompileSpec, setting: str) -> str:
    more_exact = _more_exact(spec.engine, spec.precision, spec.batch_size)
    return f"{more_exact}, or accept it with --set {setting}=X"


def _more_exact(kind: str, precision: str, batch_size: int) -> str:
    """Return the hint to compile what is closer to the network."""
    if precision == "fp32":
        return compile_again(*compile_flags(batch_size, "eager", None))
    return compile_again(*compile_flags(batch_size, kind, None), "--precision", "fp32")
