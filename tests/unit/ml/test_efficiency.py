from __future__ import annotations

import pytest

from hbseg.config.specs import EfficiencySpec
from hbseg.ml.efficiency import _document, figures, processor
from tests.efficiency import document, measured
from tests.engines import engine_card


def test_the_marker_tells_latency_of_one_batch_size_and_throughput_of_the_other() -> None:
    found = document({1: measured({1: 10}), 8: measured({1: 60, 8: 64})}, measured({1: 25, 8: 160}))
    assert figures(found, EfficiencySpec(batch_size=1, throughput_batch_size=8)) == pytest.approx(
        {"p50_ms": 10, "images_per_second": 125, "speedup": 2.5}
    )
    assert dict(found.speedups) == {1: 2.5, 8: 2.5}


def test_the_marker_of_one_engine_tells_both_of_it() -> None:
    found = document({8: measured({1: 60, 8: 64})}, measured({1: 25, 8: 160}))
    assert figures(found, EfficiencySpec(batch_size=8, throughput_batch_size=8)) == pytest.approx(
        {"p50_ms": 64, "images_per_second": 125, "speedup": 2.5}
    )


def test_the_gpu_on_which_a_network_ran_is_named_once() -> None:
    ran = measured({1: 10}).model_copy(update={"device": "NVIDIA L4"})
    card = engine_card(backend="eager", batch_size=1)
    found = _document(EfficiencySpec(), [card], [ran, ran])
    assert found.processor == f"{processor()}, NVIDIA L4"
    assert _document(EfficiencySpec(), [card], [measured({1: 10})] * 2).processor == processor()


def test_the_processor_has_a_name() -> None:
    assert processor()
