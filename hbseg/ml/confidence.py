"""How sure the network is of the masks that it makes."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from hbseg.ml.native import Logits

SAMPLES: Final = 256
"""Logits along a side that are looked at: of larger planes every n-th row and column."""


def confidences(logits_chw: Logits, *, threshold: float = 0.5) -> list[float | None]:
    """Return the mean probability of the pixels above the threshold, for each bone.

    `logits_chw` is float32 [29, side, side]; `threshold` a probability. None: no pixel is above it.
    """
    level = math.log(threshold / (1 - threshold))
    step = -(-logits_chw.shape[-1] // SAMPLES)
    return [_mean_probability(plane, level) for plane in logits_chw[:, ::step, ::step]]


def _mean_probability(plane: Logits, level: float) -> float | None:
    above = plane[plane > level].astype(np.float64)
    return float((1 / (1 + np.exp(-above))).mean()) if above.size else None
