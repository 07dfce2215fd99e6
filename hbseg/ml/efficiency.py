"""Latency, throughput and memory of an engine beside the eager network it came from.

Both get the same batches of real pictures, as uint8 in memory, and give logits in memory; reading,
scaling and the way to run lengths are not counted. Both use the same number of threads.
"""

from __future__ import annotations

import gc
import platform
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hbseg.config.specs import EfficiencySpec
from hbseg.documents import Block, Document
from hbseg.ml.engines.card import Engine, EngineCard, Images, Logits, Versions, check_card
from hbseg.ml.engines.reference import eager_logits, scaled, seen_at_once
from hbseg.runs.progress import Heartbeat
from hbseg.system.cpu import usable_threads

if TYPE_CHECKING:
    from hbseg.ml.checkpoint import LoadedModel  # it imports all encoders, which takes seconds


EFFICIENCY = "efficiency.json"
MIB = 2**20

Network = Callable[[Images], Logits]


class Latency(Block):
    """Times of one call with a whole batch; percentiles interpolate between the sorted times."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    images_per_second: float
    """Batch size over the mean time."""
    resident_mib: float
    """Memory of the whole process, libraries included, with the network loaded, before a call."""
    peak_resident_mib: float
    """Largest memory of the whole process during the calls. The engine is measured first and freed
    before the eager network is loaded, but allocators keep some of what is freed. Where the kernel
    cannot forget earlier peaks, the largest since the process began."""


class Efficiency(Document):
    """`efficiency.json`: what was measured, where, and with what."""

    kind: Literal["Efficiency"] = "Efficiency"
    batch_size: int
    image_size: int
    warmup: int
    iterations: int
    threads: int
    processor: str
    backend: str
    """Kind of the engine."""
    precision: str
    """Of the engine; the eager network is fp32."""
    versions: Versions
    engine: Latency
    eager: Latency
    speedup: float
    """Median time of the eager network over the engine's."""

    def figures(self) -> dict[str, float]:
        """Return what the marker says of the measurement."""
        return {
            "p50_ms": self.engine.p50_ms,
            "images_per_second": self.engine.images_per_second,
            "speedup": self.speedup,
        }


def measure(
    spec: EfficiencySpec,
    pictures: Sequence[NDArray[np.uint8]],
    open_engine: Callable[[], Engine],
    load_model: Callable[[], LoadedModel],
    heartbeat: Heartbeat | None = None,
) -> Efficiency:
    """Return the figures of an engine and of its network.

    Args:
        spec: numbers of calls, and the engine's batch size.
        pictures: grey levels, uint8 [height, width], at least one; repeated to fill a batch.
        open_engine: opens the engine; it is called first.
        load_model: loads the network; it is called when the engine is gone.
        heartbeat: gets each call, outside the time that is measured.

    Raises:
        ContractError: the engine was compiled from other weights.
    """
    threads = usable_threads()
    engine = open_engine()
    card = engine.card
    batch_bhw = _batch(pictures, card)
    calls = _Calls(heartbeat or Heartbeat(), 2 * (spec.warmup + spec.iterations))
    engine_latency = latency(engine.logits, batch_bhw, spec, calls.count)
    del engine
    loaded = load_model()
    check_card(card, batch_size=spec.batch_size, checkpoint_sha256=loaded.weights_sha256)
    torch.set_num_threads(threads)
    eager = latency(lambda images: eager_logits(loaded.model, images), batch_bhw, spec, calls.count)
    return _document(spec, card, threads, engine_latency, eager)


class _Calls:
    """Tells of the calls of both networks."""

    def __init__(self, heartbeat: Heartbeat, total: int) -> None:
        self._heartbeat, self._total, self._done = heartbeat, total, 0
        heartbeat.beat(0, total, "calls")

    def count(self) -> None:
        """Tell of one more call."""
        self._done += 1
        self._heartbeat.beat(self._done, self._total, "calls")


def _nothing() -> None:
    pass


def latency(
    network: Network,
    batch_bhw: Images,
    spec: EfficiencySpec,
    called: Callable[[], None] = _nothing,
) -> Latency:
    """Return the times of calls with one batch, uint8 [B, S, S], after the warm-up.

    `called` is called between them.
    """
    gc.collect()  # what came before must not be freed in the middle
    before = _resident_mib()
    _reset_peak()
    for _ in range(spec.warmup):
        called()
        network(batch_bhw)
    times = []
    for _ in range(spec.iterations):
        called()
        times.append(_seconds(network, batch_bhw))
    seconds = np.array(times)
    p50, p95, p99 = np.percentile(seconds * 1000, (50, 95, 99)).tolist()
    return Latency(
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        mean_ms=float(seconds.mean()) * 1000,
        images_per_second=len(batch_bhw) / float(seconds.mean()),
        resident_mib=before,
        # the kernel counts a little late, so a peak may come out below what was there before
        peak_resident_mib=max(before, _peak_mib()),
    )


def processor() -> str:
    """Return the processor's name, or its architecture where the system tells no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _document(
    spec: EfficiencySpec, card: EngineCard, threads: int, engine: Latency, eager: Latency
) -> Efficiency:
    return Efficiency(
        batch_size=card.batch_size,
        image_size=card.height,
        warmup=spec.warmup,
        iterations=spec.iterations,
        threads=threads,
        processor=processor(),
        backend=card.backend,
        precision=card.precision,
        versions=card.versions,
        engine=engine,
        eager=eager,
        speedup=eager.p50_ms / engine.p50_ms,
    )


def _batch(pictures: Sequence[NDArray[np.uint8]], card: EngineCard) -> Images:
    images = scaled(seen_at_once(pictures, card.height, card.view), card.height)
    return np.stack([images[index % len(images)] for index in range(card.batch_size)])


def _seconds(network: Network, batch_bhw: Images) -> float:
    start = time.perf_counter()
    network(batch_bhw)
    return time.perf_counter() - start


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def _reset_peak() -> None:
    """Have the kernel forget the process's largest memory so far, where it can."""
    forget_peak = "5"
    with suppress(OSError):  # kernels without CONFIG_PROC_PAGE_MONITOR, and sandboxes
        Path("/proc/self/clear_refs").write_text(forget_peak)


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return peak_kib / 1024
