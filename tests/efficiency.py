"""Documents of the step efficiency, without a measurement."""

from __future__ import annotations

from hbseg.runs.results import Efficiency, Latency, Measured

BATCH = 4


def latency(p50_ms: float, images: int = 1) -> Latency:
    """Times of calls that all took equally long."""
    return Latency(
        p50_ms=p50_ms,
        p95_ms=p50_ms,
        p99_ms=p50_ms,
        mean_ms=p50_ms,
        images_per_second=images * 1000 / p50_ms,
        counted=5,
    )


def measured(p50_ms: dict[int, float], memory_mib: float = 50) -> Measured:
    """A network of which only the times differ."""
    calls = {images: latency(time, images) for images, time in p50_ms.items()}
    return Measured(load_ms=100, memory_mib=memory_mib, calls=calls)


def document(engines: dict[int, Measured], eager: Measured) -> Efficiency:
    """A document of engines by batch size, and of their network."""
    return Efficiency(
        image_size=64,
        warmup=1,
        iterations=5,
        threads=1,
        processor="a processor",
        backend="onnx",
        precision="fp32",
        versions={"onnx": "1"},
        engines=engines,
        eager=eager,
    )


def measured_at(p50_ms: float) -> Efficiency:
    """A document of one engine whose calls took that long, and an eager network of twice that."""
    return document({BATCH: measured({BATCH: p50_ms})}, measured({BATCH: 2 * p50_ms}))
