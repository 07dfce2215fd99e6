from __future__ import annotations

import json

import pytest

from hbseg.config.specs import EfficiencySpec, InferSpec
from hbseg.errors import SpecError
from hbseg.runs.steps import Step
from hbseg.storage.markers import read_marker, sha256_of
from hbseg.storage.store import Store
from hbseg_jobs import efficiency as efficiency_job
from tests.engines import BATCH, SIZE

from .conftest import Chain


def job(chain: Chain, spec: EfficiencySpec) -> Store:
    inputs = {"engine": chain.engine, "checkpoint": chain.stage, "dataset": chain.version}
    context = chain.context(Step.EFFICIENCY, spec, "efficiency/key", work="efficiency", **inputs)
    efficiency_job.work(context)
    return chain.run.folder.folder("efficiency/key")


def test_the_step_writes_figures_of_engine_and_network(chain: Chain) -> None:
    spec = EfficiencySpec(batch_size=BATCH, warmup=1, iterations=5)
    folder = job(chain, spec)
    document = json.loads(folder.get("efficiency.json"))
    assert document["kind"] == "Efficiency"
    assert (document["batch_size"], document["image_size"]) == (BATCH, SIZE)
    assert (document["threads"], document["iterations"]) == (1, 5)
    for name in ("engine", "eager"):
        figures = document[name]
        assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
        assert figures["images_per_second"] == pytest.approx(BATCH * 1000 / figures["mean_ms"])
        assert figures["peak_resident_mib"] >= figures["resident_mib"] > 50
    assert document["speedup"] == pytest.approx(
        document["eager"]["p50_ms"] / document["engine"]["p50_ms"]
    )


def test_figures_do_not_change_the_step_s_digest(chain: Chain) -> None:
    spec = EfficiencySpec(batch_size=BATCH, warmup=0, iterations=2)
    markers = [read_marker(job(chain, spec)) for _ in range(2)]
    assert markers[0].outputs == {}
    assert markers[0].records != markers[1].records
    assert markers[0].digest == markers[1].digest
    folder = chain.run.folder.folder("efficiency/key")
    assert markers[1].records == {"efficiency.json": sha256_of(folder.get("efficiency.json"))}
    assert set(markers[0].metrics) == {"p50_ms", "images_per_second", "speedup"}


def test_the_step_refuses_the_spec_of_another_step(chain: Chain) -> None:
    context = chain.context(Step.EFFICIENCY, InferSpec(), "wrong", work="wrong")
    with pytest.raises(
        SpecError, match="given InferSpec, expected EfficiencySpec"
    ):
        efficiency_job.work(context)
