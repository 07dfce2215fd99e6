from __future__ import annotations

import json
from mmap import mmap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hbseg.config.specs import EfficiencySpec, InferSpec
from hbseg.errors import ContractError, SpecError
from hbseg.ml import efficiency
from hbseg.ml.checkpoint import load_model
from hbseg.ml.efficiency import latency, measure, processor
from hbseg.ml.engines.card import Images, Logits
from hbseg.runs.steps import Step
from hbseg.storage.markers import read_marker, sha256_of
from hbseg.storage.store import Store
from hbseg_jobs import efficiency as efficiency_job

from .conftest import BATCH, SIZE, BrightnessEngine, Chain, grey


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


def test_warm_up_is_not_counted_and_percentiles_are_of_the_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    now = 0.0
    monkeypatch.setattr(efficiency, "time", SimpleNamespace(perf_counter=lambda: now))

    def network(images_bhw: Images) -> Logits:
        calls.append(len(images_bhw))
        nonlocal now
        now += 0.2 if len(calls) <= 2 else 0.02 if len(calls) == 6 else 0.002
        return np.zeros((len(images_bhw), 29, 1, 1), dtype=np.float32)

    spec = EfficiencySpec(batch_size=3, warmup=2, iterations=11)
    found = latency(network, np.zeros((3, 8, 8), dtype=np.uint8), spec)
    assert calls == [3] * 13
    assert found.p50_ms == pytest.approx(2)
    assert found.p95_ms == pytest.approx(11)  # half of the way from 2 to 20
    assert found.p99_ms == pytest.approx(18.2)  # nine tenths of it
    assert found.mean_ms == pytest.approx(40 / 11)
    assert found.images_per_second == pytest.approx(3 * 11 / 0.04)


def test_the_peak_is_that_of_the_calls_alone() -> None:
    def touch(mib: int) -> None:
        with mmap(-1, mib * 2**20) as memory:  # the allocator may keep memory, the kernel does not
            for _ in range(mib):
                memory.write(bytes([1]) * 2**20)

    touch(200)  # gone before the calls

    def network(images_bhw: Images) -> Logits:
        touch(64)
        return np.zeros((1, 29, 1, 1), dtype=np.float32)

    spec = EfficiencySpec(warmup=0, iterations=1)
    found = latency(network, np.zeros((1, 8, 8), dtype=np.uint8), spec)
    assert 60 <= found.peak_resident_mib - found.resident_mib <= 100


def test_a_kernel_that_cannot_forget_the_peak_gives_that_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(path: Path, text: str) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "write_text", refused)
    spec = EfficiencySpec(warmup=0, iterations=1)
    found = latency(
        lambda images: np.zeros((1, 29, 1, 1), dtype=np.float32),
        np.zeros((1, 8, 8), dtype=np.uint8),
        spec,
    )
    assert found.peak_resident_mib >= found.resident_mib > 0


def test_an_engine_of_other_weights_is_refused(chain: Chain) -> None:
    spec = EfficiencySpec(batch_size=2, warmup=0, iterations=1)
    with pytest.raises(ContractError, match="engine was compiled from weights 000000000000, asked"):
        measure(spec, [grey(0)], lambda: BrightnessEngine(2), lambda: load_model(chain.stage))


def test_the_step_refuses_the_spec_of_another_step(chain: Chain) -> None:
    context = chain.context(Step.EFFICIENCY, InferSpec(), "wrong", work="wrong")
    with pytest.raises(SpecError, match="step efficiency was given a InferSpec, expected an Effic"):
        efficiency_job.work(context)


def test_the_processor_has_a_name() -> None:
    assert processor()
