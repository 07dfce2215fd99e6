from __future__ import annotations

import pytest

from hbseg.config.specs import CompileSpec, EfficiencySpec, InferSpec
from hbseg.errors import ContractError, SpecError
from hbseg.ml import efficiency
from hbseg.runs.results import EFFICIENCY, Efficiency
from hbseg.runs.steps import Step
from hbseg.storage.markers import MARKER, read_marker, sha256_of
from hbseg.storage.store import Store
from hbseg_jobs import efficiency as efficiency_job
from tests.efficiency import measured_at
from tests.engines import BATCH, SIZE

from .conftest import Chain

ONE_SIZE = EfficiencySpec(batch_size=BATCH, throughput_batch_size=BATCH)


def job(chain: Chain, spec: EfficiencySpec, **engines: Store) -> Store:
    inputs = {"engine": chain.engine, "checkpoint": chain.stage, "dataset": chain.version}
    context = chain.context(
        Step.EFFICIENCY, spec, "efficiency/key", work="efficiency", **{**inputs, **engines}
    )
    efficiency_job.work(context)
    return chain.run.folder.folder("efficiency/key")


def test_the_step_measures_the_engines_and_their_network(chain: Chain) -> None:
    single = chain.compile(CompileSpec(batch_size=1), "engine/single")
    spec = EfficiencySpec(
        batch_size=1, throughput_batch_size=BATCH, warmup=1, iterations=5, seconds=1
    )
    folder = job(chain, spec, engine=single, throughput_engine=chain.engine)

    found = Efficiency.from_text(folder.get(EFFICIENCY), source=EFFICIENCY)
    assert (found.image_size, found.threads, found.iterations) == (SIZE, 1, 5)
    assert (found.backend, found.precision) == ("onnx", "fp32")
    assert {size: list(m.calls) for size, m in found.engines.items()} == {1: [1], BATCH: [1, BATCH]}
    assert list(found.eager.calls) == [1, 2, BATCH]
    for measured in (*found.engines.values(), found.eager):
        assert measured.load_ms > 0
        assert (
            0 < measured.memory_mib < 200
        )  # torch alone, which all libraries are apart of, is more
        for images, latency in measured.calls.items():
            assert 0 < latency.p50_ms <= latency.p95_ms <= latency.p99_ms
            assert latency.images_per_second == pytest.approx(images * 1000 / latency.mean_ms)
            assert 3 <= latency.counted <= 5
    assert read_marker(folder).metrics == pytest.approx(
        {
            "p50_ms": found.engines[1].calls[1].p50_ms,
            "images_per_second": found.engines[BATCH].calls[BATCH].images_per_second,
            "speedup": found.eager.calls[1].p50_ms / found.engines[1].calls[1].p50_ms,
        }
    )


def test_figures_do_not_change_the_step_s_digest(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    markers = []
    for milliseconds in (10, 11):
        found = measured_at(milliseconds)
        monkeypatch.setattr(efficiency, "measure", lambda *arguments, found=found: found)
        markers.append(read_marker(job(chain, ONE_SIZE)))
    assert markers[0].outputs == {}
    assert markers[0].records != markers[1].records
    assert markers[0].digest == markers[1].digest
    folder = chain.run.folder.folder("efficiency/key")
    assert markers[1].records == {EFFICIENCY: sha256_of(folder.get(EFFICIENCY))}
    assert [marker.metrics["p50_ms"] for marker in markers] == [10, 11]


def test_an_engine_of_other_weights_is_refused(chain: Chain, engine_copy: Store) -> None:
    card = engine_copy.get("engine.json")
    weights = read_marker(chain.stage).outputs["checkpoints/final/weights.safetensors"]
    other = card.replace(weights.encode(), b"0" * 64)
    marker = engine_copy.get(MARKER).replace(sha256_of(card).encode(), sha256_of(other).encode())
    engine_copy.put("engine.json", other)
    engine_copy.put(MARKER, marker)
    with pytest.raises(ContractError, match="from weights 000000000000, which are not those of"):
        job(chain, ONE_SIZE, engine=engine_copy)


def test_a_damaged_engine_is_named_by_its_place_in_storage(
    chain: Chain, engine_copy: Store
) -> None:
    engine_copy.put("model.onnx", b"torn")
    with pytest.raises(ContractError, match=rf"{engine_copy.url}/model\.onnx"):
        job(chain, ONE_SIZE, engine=engine_copy)


def test_the_step_refuses_the_spec_of_another_step(chain: Chain) -> None:
    context = chain.context(Step.EFFICIENCY, InferSpec(), "wrong", work="wrong")
    with pytest.raises(SpecError, match="given InferSpec, expected EfficiencySpec"):
        efficiency_job.work(context)
