from __future__ import annotations

from mmap import mmap
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hbseg.config.specs import EfficiencySpec
from hbseg.errors import ContractError
from hbseg.ml import efficiency
from hbseg.ml.efficiency import latency, measure, processor
from hbseg.ml.engines.card import Images, Logits
from tests.engines import SIZE, BrightnessEngine, engine_card, grey, loaded_model

if TYPE_CHECKING:
    from hbseg.ml.checkpoint import LoadedModel


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


def test_the_processor_has_a_name() -> None:
    assert processor()


def test_figures_are_of_the_engine_first_and_then_of_its_network() -> None:
    engine = BrightnessEngine(3)
    loads: list[int] = []

    def load() -> LoadedModel:
        loads.append(len(engine.batches))
        return loaded_model()

    spec = EfficiencySpec(batch_size=3, warmup=1, iterations=4)
    found = measure(spec, [grey(0), grey(1)], lambda: engine, load)

    assert engine.batches == [3] * 5
    assert loads == [5]
    assert (found.backend, found.precision, found.versions) == (
        "onnx",
        "fp32",
        engine.card.versions,
    )
    assert (found.batch_size, found.image_size, found.iterations) == (3, SIZE, 4)
    assert found.speedup == found.eager.p50_ms / found.engine.p50_ms
    assert found.figures() == {
        "p50_ms": found.engine.p50_ms,
        "images_per_second": found.engine.images_per_second,
        "speedup": found.speedup,
    }


def test_an_engine_of_other_weights_is_refused() -> None:
    engine = BrightnessEngine(2)
    engine.card = engine_card(batch_size=2, checkpoint_sha256="0" * 64)
    spec = EfficiencySpec(batch_size=2, warmup=0, iterations=1)
    with pytest.raises(ContractError, match="engine was compiled from weights 000000000000, asked"):
        measure(spec, [grey(0)], lambda: engine, loaded_model)
