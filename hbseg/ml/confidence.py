"""How sure the network is of the masks that it makes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hbseg.ml.views import Planes

MIDDLE: Final = 0.5
"""Probability above which a pixel counts; its logit is 0."""
SAMPLES: Final = 256
"""Logits along a side that are looked at: of larger planes every n-th row and column."""


def confidences(logits_chw: Planes) -> list[float]:
    """Return the mean probability of the pixels above 0.5, for each bone.

    Where no pixel is above 0.5 it is the largest probability. The threshold that masks are made
    with changes nothing, so one limit fits all. `logits_chw` is float32 [29, h, w]. Of planes on a
    device the sampled logits leave it, and the maximum of a bone that is nowhere above 0.5.
    """
    step = -(-max(logits_chw.shape[1:]) // SAMPLES)
    sampled = logits_chw[:, ::step, ::step]
    planes = sampled if isinstance(sampled, np.ndarray) else sampled.cpu().numpy()
    return [
        float(_probability(above).mean())
        if (above := plane[plane > 0]).size
        else float(_probability(np.array(float(whole.max()))))
        for plane, whole in zip(planes, logits_chw, strict=True)
    ]


def _probability(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
