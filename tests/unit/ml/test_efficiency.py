from __future__ import annotations

import pytest

from hbseg.config.specs import EfficiencySpec
from hbseg.ml.efficiency import figures, processor
from tests.efficiency import document, measured


def test_the_marker_tells_latency_of_one_batch_size_and_throughput_of_the_other() -> None:
    found = document({1: measured({1: 10}), 8: measured({1: 60, 8: 64})}, measured({1: 25, 8: 160}))
    assert figures(found, EfficiencySpec(batch_size=1, throughput_batch_size=8)) == pytest.approx(
        {"p50_ms": 10, "images_per_second": 125, "speedup": 2.5}
    )
    assert dict(found.speedups) == {1: 2.5, 8: 2.5}


def test_the_processor_has_a_name() -> None:
    assert processor()
