"""How sure the network is of the masks that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from hbseg.ml.native import Logits, logit_levels
from hbseg.ml.views import Planes

SAMPLES: Final = 256
"""Logits along a side that are looked at: of larger planes every n-th row and column."""


def confidences(
    logits_chw: Planes, *, threshold: float | Sequence[float] = 0.5
) -> list[float | None]:
    """Return the mean probability of the pixels above the threshold, for each bone.

    `logits_chw` is float32 [29, h, w], `threshold` as for `native_runs`. None: no pixel is above
    it. Of planes on a device only the sampled logits leave it.
    """
    step = -(-max(logits_chw.shape[1:]) // SAMPLES)
    sampled = logits_chw[:, ::step, ::step]
    planes = sampled if isinstance(sampled, np.ndarray) else sampled.cpu().numpy()
    levels = logit_levels(threshold, len(planes))
    return [_mean_probability(plane, level) for plane, level in zip(planes, levels, strict=True)]


def _mean_probability(plane: Logits, level: np.float32) -> float | None:
    above = plane[plane > level].astype(np.float64)
    return float((1 / (1 + np.exp(-above))).mean()) if above.size else None
