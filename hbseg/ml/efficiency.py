"""Latency, throughput and memory of engines beside the eager network that they came from.

All get the same pictures, as uint8 in memory, and give logits in memory, of the GPU where one
computes; reading, scaling and the way to run lengths are not counted. All use the same number of
threads. Each network is measured in a process of its own (`hbseg.ml.measuring`).
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hbseg.config.specs import EfficiencySpec
from hbseg.errors import ContractError
from hbseg.ml.engines.card import CARD, CPU, EngineCard, compile_again
from hbseg.ml.engines.reference import scaled, seen_at_once
from hbseg.ml.measuring import Assignment, after, measure_apart
from hbseg.runs.progress import Heartbeat
from hbseg.runs.results import Efficiency, Measured
from hbseg.runs.steps import SHORT
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import MARKER, read_marker, verified
from hbseg.storage.store import Store
from hbseg.system.cpu import usable_threads


def measure(
    spec: EfficiencySpec,
    pictures: Sequence[NDArray[np.uint8]],
    engines: Iterable[Store],
    stage: Store,
    work: Path,
    heartbeat: Heartbeat | None = None,
) -> Efficiency:
    """Return the figures of engines and of their network.

    Args:
        spec: numbers of calls.
        pictures: grey levels, uint8 [height, width], at least one; repeated to fill a batch.
        engines: folders of engines of different batch sizes, in the order in which they are
            measured.
        stage: folder of the training stage that they were compiled from; measured last.
        work: local folder for copies of the files.
        heartbeat: hears of the calls.

    Raises:
        ContractError: a file is damaged, or an engine was compiled from other weights.
        KilledError: a network needs more memory than there is.
    """
    copies = [_copied(folder, work / f"network-{i}") for i, folder in enumerate([*engines, stage])]
    cards = [_card(copy) for copy in copies[:-1]]
    for card in cards:
        _check_weights(card, stage)
    images = work / "pictures.npy"
    seen = seen_at_once(pictures, cards[0].height, cards[0].view)
    np.save(images, scaled(seen, cards[0].height))
    measured = _measured(_assignments(spec, cards, copies, images), heartbeat or Heartbeat())
    return _document(spec, cards, measured)


def figures(found: Efficiency, spec: EfficiencySpec) -> dict[str, float]:
    """Return what the marker says: latency and speedup of one engine, throughput of the other."""
    latency = found.engines[spec.batch_size].calls[spec.batch_size]
    size = spec.throughput_batch_size or spec.batch_size
    throughput = found.engines[size].calls[size]
    return {
        "p50_ms": latency.p50_ms,
        "images_per_second": throughput.images_per_second,
        "speedup": dict(found.speedups)[spec.batch_size],
    }


def processor() -> str:
    """Return the processor's name, or its architecture where the system tells no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _copied(folder: Store, target: Path) -> Path:
    """Copy a finished folder's marker and the files that it lists to the local disk, verified."""
    marker, copy = read_marker(folder), FolderStore(target)
    for key, expected in {**marker.outputs, **marker.records}.items():
        copy.put(key, verified(folder.get(key), expected, source=f"{folder.url}/{key}"))
    copy.put(MARKER, folder.get(MARKER))
    return target


def _card(engine: Path) -> EngineCard:
    return EngineCard.from_text(FolderStore(engine).get(CARD), source=str(engine / CARD))


def _check_weights(card: EngineCard, stage: Store) -> None:
    if card.checkpoint_sha256 not in read_marker(stage).outputs.values():
        raise ContractError(
            f"engine was compiled from weights {card.checkpoint_sha256[:SHORT]}, which are not "
            f"those of {stage.url}",
            compile_again(),
        )


def _assignments(
    spec: EfficiencySpec, cards: Sequence[EngineCard], copies: Sequence[Path], pictures: Path
) -> list[Assignment]:
    """Return what is measured: the engines, and then their network, where the last copy is."""
    threads = usable_threads()

    def assignment(card: EngineCard, folder: Path, images: Iterable[int]) -> Assignment:
        return Assignment(
            network="eager" if folder == copies[-1] else "engine",
            folder=str(folder),
            card=card,
            pictures=str(pictures),
            images=tuple(images),
            warmup=spec.warmup,
            iterations=spec.iterations,
            seconds=spec.seconds,
            threads=threads,
        )

    engines = [
        assignment(card, folder, sorted({1, card.batch_size}))
        for card, folder in zip(cards, copies[:-1], strict=True)
    ]
    sizes = [card.batch_size for card in cards]
    return [*engines, assignment(cards[0], copies[-1], _eager_images(sizes))]


def _eager_images(batch_sizes: Sequence[int]) -> list[int]:
    """Return the powers of two up to the largest batch size, and all batch sizes."""
    largest = max(batch_sizes)
    return sorted({2**power for power in range(largest.bit_length())} | set(batch_sizes))


def _measured(assignments: Sequence[Assignment], heartbeat: Heartbeat) -> list[Measured]:
    total = sum(assignment.total for assignment in assignments)

    def called(done: int) -> None:
        heartbeat.beat(done, total, "calls")

    called(0)
    found, done = [], 0
    for assignment in assignments:
        found.append(measure_apart(assignment, after(called, done)))
        done += assignment.total
        called(done)
    return found


def _document(
    spec: EfficiencySpec, cards: Sequence[EngineCard], measured: Sequence[Measured]
) -> Efficiency:
    gpus = {found.device: None for found in measured if found.device != CPU}
    return Efficiency(
        image_size=cards[0].height,
        warmup=spec.warmup,
        iterations=spec.iterations,
        threads=usable_threads(),
        processor=", ".join([processor(), *gpus]),
        backend=_names(card.backend for card in cards),
        precision=_names(card.precision for card in cards),
        versions={name: text for card in cards for name, text in card.versions.items()},
        engines={card.batch_size: m for card, m in zip(cards, measured[:-1], strict=True)},
        eager=measured[-1],
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
