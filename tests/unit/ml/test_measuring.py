from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from mmap import mmap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hbseg.errors import ContractError, KilledError
from hbseg.ml import measuring
from hbseg.ml.engines.card import Images
from hbseg.ml.measuring import (
    MIB,
    Assignment,
    CpuMeter,
    GpuMeter,
    _eager,
    _engine,
    latency,
    measure_apart,
    measure_here,
    runs_on_gpu,
)
from hbseg.storage.folder import FolderStore
from tests.engines import BATCH, SIZE, BrightnessEngine, engine_card, grey, write_engine

STAYS = """
import os, sys, time
os.write(int(sys.argv[1]), b'{"done": 1}\\n')
time.sleep(600)
"""
"""A process that tells of one call, and measures no further."""
BATCH_BHW = np.zeros((3, 8, 8), dtype=np.uint8)


def assignment(folder: Path = Path("nowhere"), **changes: object) -> Assignment:
    values = {
        "network": "engine",
        "folder": str(folder),
        "card": engine_card(),
        "pictures": str(folder / "pictures.npy"),
        "images": (1,),
        "warmup": 2,
        "iterations": 11,
        "seconds": 60,
        "threads": 1,
    }
    return Assignment.model_validate(values | changes)


class Watch:
    """A network whose calls take the times of a list, on a clock of its own."""

    def __init__(self, seconds: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.images: list[int] = []
        self._seconds, self._now = list(seconds), 0.0
        clock = SimpleNamespace(perf_counter=lambda: self._now)
        monkeypatch.setattr(measuring, "time", clock)

    def __call__(self, images_bhw: Images) -> None:
        self._now += self._seconds[len(self.images)]
        self.images.append(len(images_bhw))


def test_warm_up_is_not_counted_and_percentiles_are_of_the_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Watch([0.2, 0.2, *[0.002] * 3, 0.02, *[0.002] * 7], monkeypatch)
    told: list[int] = []
    found = latency(network, BATCH_BHW, assignment(), CpuMeter(), told.append)
    assert network.images == [3] * 13
    assert told == list(range(1, 14))
    assert found.counted == 11
    assert found.p50_ms == pytest.approx(2)
    assert found.p95_ms == pytest.approx(11)  # half of the way from 2 to 20
    assert found.p99_ms == pytest.approx(18.2)  # nine tenths of it
    assert found.mean_ms == pytest.approx(40 / 11)
    assert found.images_per_second == pytest.approx(3 * 11 / 0.04)


@pytest.mark.parametrize(("seconds", "warmed", "counted"), [(10, 2, 10), (2.5, 2, 3), (0.5, 1, 3)])
def test_slow_calls_are_fewer_but_never_fewer_than_three(
    monkeypatch: pytest.MonkeyPatch, seconds: float, warmed: int, counted: int
) -> None:
    network = Watch([1.0] * 99, monkeypatch)
    asked = assignment(seconds=seconds, iterations=50)
    found = latency(network, BATCH_BHW, asked, CpuMeter(), lambda done: None)
    assert found.counted == counted
    assert len(network.images) == warmed + counted


def touch(mib: int) -> None:
    with mmap(-1, mib * 2**20) as memory:  # the allocator may keep memory, the kernel does not
        for _ in range(mib):
            memory.write(bytes([1]) * 2**20)


def test_the_network_s_own_memory_is_its_largest_since_the_meter_began() -> None:
    touch(200)  # gone before
    meter = CpuMeter()
    meter.begin()
    touch(64)
    assert 60 <= meter.own_mib() <= 100


def test_a_kernel_that_cannot_forget_the_peak_gives_that_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(path: Path, text: str) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "write_text", refused)
    touch(64)
    meter = CpuMeter()
    meter.begin()
    assert meter.own_mib() >= 0


class FakeCuda:
    """A GPU of 1000 MiB on which a call takes 3 ms, 40 MiB of torch's and 25 MiB of a library's."""

    def __init__(self) -> None:
        self.allocated, self.peak, self.reserved, self.used, self.now = 10, 90, 20, 120, 0.0

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: None  # init, synchronize, empty_cache

    def is_available(self) -> bool:
        return True

    def get_device_name(self) -> str:
        return "NVIDIA L4"

    def reset_peak_memory_stats(self) -> None:
        self.peak = self.allocated

    def memory_allocated(self) -> int:
        return self.allocated * MIB

    def max_memory_allocated(self) -> int:
        return self.peak * MIB

    def memory_reserved(self) -> int:
        return self.reserved * MIB

    def mem_get_info(self) -> tuple[int, int]:
        return (1000 - self.used) * MIB, 1000 * MIB

    def Event(self, *, enable_timing: bool) -> FakeEvent:  # noqa: N802 - torch's name
        assert enable_timing
        return FakeEvent(self)

    def call(self) -> None:
        self.now += 3
        self.peak, self.reserved, self.used = 50, 60, 185


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda, self.time = cuda, -1.0

    def record(self) -> None:
        self.time = self._cuda.now

    def synchronize(self) -> None:
        assert self.time >= 0

    def elapsed_time(self, other: FakeEvent) -> float:
        return other.time - self.time


def test_on_a_gpu_events_time_and_both_kinds_of_memory_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr("torch.cuda", cuda)
    meter = GpuMeter()
    meter.begin()
    assert meter.seconds(cuda.call) == pytest.approx(0.003)
    assert meter.own_mib() == 40 + 25


def test_an_eager_engine_and_its_network_are_measured_on_the_gpu_that_there_is(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card of an eager engine says `cpu` wherever it was made."""
    cuda, devices = FakeCuda(), []

    class QueuedEngine(StreamEngine):
        def stream(self, batches: Iterable[Images]) -> Iterator[str]:
            cuda.call()
            yield from super().stream(batches)

    def moved(device: torch.device) -> None:
        devices.append(device.type)

    loaded = SimpleNamespace(model=SimpleNamespace(to=moved))
    monkeypatch.setattr("hbseg.ml.checkpoint.load_model", lambda folder: loaded)
    monkeypatch.setattr(measuring, "open_engine", lambda *_, **__: QueuedEngine(BATCH))
    monkeypatch.setattr("torch.cuda", cuda)
    asked = assignment(engine, card=engine_card(backend="eager", versions={"torch": "2"}))

    found = measure_here(asked, lambda done: None)
    assert found.device == "NVIDIA L4"
    assert found.memory_mib == 40 + 25
    assert found.load_ms == pytest.approx(3)
    assert found.calls[1].p50_ms == pytest.approx(3)
    _eager(asked)()
    assert devices == ["cuda"]


def test_an_onnx_engine_and_its_network_are_measured_on_the_cpu_beside_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda", FakeCuda())
    assert not runs_on_gpu(engine_card())
    assert runs_on_gpu(engine_card(backend="tensorrt"))


class StreamEngine(BrightnessEngine):
    """An engine whose logits stay on its device."""

    def stream(self, batches: Iterable[Images]) -> Iterator[str]:
        yield from (f"logits of {len(images_bhw)} on the device" for images_bhw in batches)


def test_logits_of_an_engine_on_a_device_stay_there(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "open_engine", lambda *_, **__: StreamEngine(BATCH))
    network = _engine(assignment(engine))()
    assert network(BATCH_BHW) == "logits of 3 on the device"


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A folder with an engine whose model file is no model, and a picture."""
    write_engine(FolderStore(tmp_path))
    np.save(tmp_path / "pictures.npy", grey(0, SIZE, SIZE)[None])
    return tmp_path


def test_an_error_of_the_process_is_raised_with_its_hint(engine: Path) -> None:
    with pytest.raises(ContractError, match=r"cannot load model\.onnx") as raised:
        measure_apart(assignment(engine), lambda done: None)
    assert str(raised.value.hint).endswith("--again")


def ends_with(code: str) -> Callable[[Sequence[str]], list[str]]:
    """What starts a Python that does `code` in place of the measurement."""
    return lambda command: [sys.executable, "-I", "-c", code]


def test_a_process_that_is_killed_names_memory_as_the_usual_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    monkeypatch.setattr(measuring, "dies_with_parent", ends_with(killed))
    with pytest.raises(KilledError, match="killed, usually for its memory; give the step") as found:
        measure_apart(assignment(), lambda done: None)
    assert found.value.step_exit_code == 137


def test_a_process_that_ends_without_a_result_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "dies_with_parent", ends_with("raise SystemExit(9)"))
    with pytest.raises(RuntimeError, match="ended with code 9 and no result"):
        measure_apart(assignment(), lambda done: None)


def test_the_process_ends_with_whoever_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    monkeypatch.setattr(
        measuring,
        "dies_with_parent",
        lambda command: [sys.executable, "-I", "-c", STAYS, command[-1]],
    )

    def stopped(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_apart(assignment(), stopped)
    assert started[0].returncode == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)
