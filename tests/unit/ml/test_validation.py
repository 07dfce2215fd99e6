from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch

from hbseg import rle
from hbseg.anatomy import BONES
from hbseg.config.specs import ViewName
from hbseg.data.annotation import runs
from hbseg.data.dataset import Dataset
from hbseg.ml.distributed import World
from hbseg.ml.engines.gate import eager_logits
from hbseg.ml.model import Segmenter
from hbseg.ml.validation import Validation
from tests.engines import LinearNetwork

ALONE = World(rank=0, size=1, device=torch.device("cpu"))


@pytest.mark.parametrize(("view", "size"), [("window", 64), ("whole", 96)])
def test_dice_is_that_of_the_network_at_native_size(
    drawn: Dataset, view: ViewName, size: int
) -> None:
    """The network looks at one pixel at a time; the pictures have 96 x 96."""
    samples, network = drawn.samples("validation"), LinearNetwork()
    validation = Validation(drawn, samples, size, ALONE, view=view)
    expected = np.zeros(len(BONES))
    for sample in samples:
        masks = eager_logits(network, drawn.picture(sample)[None])[0] > 0
        pairs = zip(masks, runs(drawn.polygons(sample), sample.shape), strict=True)
        expected += [rle.dice(rle.runs_of(mask), true) / len(samples) for mask, true in pairs]
    for _ in range(2):
        found = validation.mean_dice(cast("Segmenter", network), torch.float32)
        assert list(found.values()) == pytest.approx(expected.tolist())
    assert max(expected) > 0.05
