from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hbseg.anatomy import NUM_BONES
from hbseg.ml.confidence import SAMPLES, confidences


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_it_is_the_mean_over_what_is_above_a_half_or_the_largest_probability() -> None:
    planes = np.full((NUM_BONES, 8, 8), logit(0.01), dtype=np.float32)
    planes[0, 2, 2:4] = logit(0.9), logit(0.7)
    planes[0, 3, 2:4] = logit(0.49)  # pixels of a mask at a threshold of 0.45, say
    planes[1, 4, 4] = logit(0.4)
    for given in (planes, torch.from_numpy(planes)):
        found = confidences(given)
        assert found[:3] == pytest.approx([0.8, 0.4, 0.01], abs=1e-6)
        assert len(found) == NUM_BONES


def test_a_bone_that_no_sample_meets_has_its_largest_probability() -> None:
    planes = np.full((NUM_BONES, 2 * SAMPLES, 2 * SAMPLES), -1000, dtype=np.float32)
    planes[0, 1, 1] = logit(0.7)
    assert confidences(planes)[:2] == pytest.approx([0.7, 0.0], abs=1e-6)
