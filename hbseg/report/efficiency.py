"""The efficiency of a run as its section of the report: a sentence, a chart and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from hbseg.report.charts import Series, lines
from hbseg.report.view import Card, Chart, EfficiencyView, LineSample, Table
from hbseg.runs.results import Efficiency, Latency, Measured

CHART = "Images per second by the number of images of a call"


def efficiency_view(found: Efficiency) -> EfficiencyView:
    """Return the section of a measurement."""
    series = [
        Series("eager", "eager", _throughput(found.eager.calls)),
        Series("engine", "engine", _engine_throughput(found)),
    ]
    return EfficiencyView(
        told=_told(found),
        key=tuple(LineSample(one.style, _key_text(one.name, found)) for one in series),
        chart=Chart(CHART, lines(CHART, "images of a call", series)),
        times=_times(found),
        networks=_networks(found),
        document=json.dumps(found.to_mapping(), indent=2, ensure_ascii=False),
    )


def latency_card(found: Efficiency) -> Card:
    """Return the figure of the smallest engine's call, beside the eager network's."""
    batch, engine = min(found.engines.items())
    time = engine.calls[batch].p50_ms
    remark = f"one call of {_counted(batch, 'image')}, engine, median"
    if (speedup := dict(found.speedups).get(batch)) is not None:
        remark += f"; {speedup:.1f} times as fast as eager"
    return Card("Latency", f"{time:.0f} ms" if time >= 10 else f"{time:.1f} ms", remark)


def _told(found: Efficiency) -> str:
    """Return what the chart shows, as one sentence."""
    batch, engine = max(found.engines.items())
    rate = engine.calls[batch].images_per_second
    images = _counted(batch, "image")
    sentence = f"With {images} a call, the {found.backend} engine takes {rate:.1f} images/s"
    if batch in found.eager.calls:
        share = rate / found.eager.calls[batch].images_per_second
        sentence += f", {share:.1f} times as many as the eager network"
    return f"{sentence}, on {found.processor} with {_counted(found.threads, 'thread')}."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _key_text(name: str, found: Efficiency) -> str:
    return "eager (fp32)" if name == "eager" else f"{found.backend} engines ({found.precision})"


def _throughput(calls: Mapping[int, Latency]) -> dict[int, float]:
    return {images: calls[images].images_per_second for images in sorted(calls)}


def _engine_throughput(found: Efficiency) -> dict[int, float]:
    """Return images per second of whole batches, by batch size."""
    return {
        batch: engine.calls[batch].images_per_second
        for batch, engine in sorted(found.engines.items())
        if batch in engine.calls
    }


def _named(found: Efficiency) -> Iterator[tuple[str, Measured]]:
    yield "eager", found.eager
    for batch, engine in sorted(found.engines.items()):
        yield f"engine of batch size {batch}", engine


def _times(found: Efficiency) -> Table:
    rows = tuple(
        (name, str(images), *_figures(latency))
        for name, network in _named(found)
        for images, latency in sorted(network.calls.items())
    )
    heads = ("Network", "Images", "p50, ms", "p95, ms", "p99, ms", "Images/s", "Calls counted")
    return Table("Time of one call; an engine pads what is less than its batch", heads, rows)


def _figures(latency: Latency) -> tuple[str, ...]:
    times = (latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.images_per_second)
    return (*(f"{value:.1f}" for value in times), str(latency.counted))


def _networks(found: Efficiency) -> Table:
    rows = tuple(
        (name, f"{network.load_ms:.0f}", f"{network.memory_mib:.0f}")
        for name, network in _named(found)
    )
    heads = ("Network", "Load, ms", "Memory, MiB")
    caption = "From the files on the disk to the end of the first call, and the largest memory"
    return Table(caption, heads, rows)
