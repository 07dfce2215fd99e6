"""Measure one network in a process of its own, which holds no other network and its libraries.

`python -m hbseg.ml.measuring FD` reads an `Assignment` as JSON from its standard input and writes
lines of JSON to the file descriptor FD: `{"done": CALLS}` about once a second, and at the end
`{"measured": ...}` (a `Measured`) or `{"error": ...}` (class, message and hint of an `HbsegError`).
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol, cast

import numpy as np

from hbseg import errors
from hbseg.documents import Block, Count
from hbseg.errors import HbsegError, KilledError
from hbseg.ml.engines.card import CPU, DeviceEngine, EngineCard, Images
from hbseg.ml.engines.kinds import kind_of
from hbseg.ml.engines.opening import open_engine
from hbseg.runs.engines import ENGINE_KINDS
from hbseg.runs.results import Latency, Measured
from hbseg.storage.folder import FolderStore
from hbseg.system.processes import dies_with_parent, stop

LEAST_CALLS: Final = 3
"""Calls that are counted however long they take."""
TELL_SECONDS: Final = 1.0
"""Between two lines that tell of calls: whoever reads them takes time of the CPU."""
STOP_SECONDS: Final = 5.0
MIB: Final = 2**20

Network = Callable[[Images], object]
Called = Callable[[int], None]
"""Gets the number of calls that are done."""


class Assignment(Block):
    """What a process measures."""

    network: Literal["engine", "eager"]
    folder: str
    """Local copy of the engine's folder, or of the training stage's."""
    card: EngineCard
    """Of the engine; the eager network runs where the engine does."""
    pictures: str
    """File (NumPy's format) of pictures as the network sees them, uint8 [n, S, S]."""
    images: tuple[Count, ...]
    """Numbers of images of a call."""
    warmup: int
    iterations: Count
    seconds: float
    threads: Count

    @property
    def calls(self) -> int:
        """Most calls of one number of images, warm-up included."""
        return self.warmup + self.iterations

    @property
    def total(self) -> int:
        """Most calls in all."""
        return len(self.images) * self.calls


class Meter(Protocol):
    """Measures time and memory of a device."""

    device: str
    """The GPU's name, or `cpu`."""

    def begin(self) -> None:
        """Take what is held now as no network's own."""

    def own_mib(self) -> float:
        """Return the largest memory in MiB since `begin`, above what was held then."""

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the time in seconds that a call takes on the device."""


def measure_apart(assignment: Assignment, called: Called) -> Measured:
    """Return what a process of its own measures; `called` hears of its calls.

    Raises:
        HbsegError: what the process raised.
        KilledError: it was killed.
        RuntimeError: it ended without a result; its own words are on stderr.
    """
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "hbseg.ml.measuring", str(writer)]
    with open(reader, "rb") as lines:
        process = subprocess.Popen(
            dies_with_parent(command), stdin=subprocess.PIPE, pass_fds=(writer,)
        )
        os.close(writer)
        try:
            _send(process, assignment)
            found = _result(lines, called)
            code = process.wait()
        finally:
            stop(process, STOP_SECONDS)
    if found is None:
        raise _without_result(assignment, code)
    return found


def _send(process: subprocess.Popen[bytes], assignment: Assignment) -> None:
    with suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as stdin:
        stdin.write(assignment.model_dump_json(by_alias=True).encode())


def _result(lines: Iterable[bytes], called: Called) -> Measured | None:
    for line in lines:
        told = json.loads(line)
        if "done" in told:
            called(told["done"])
        elif "error" in told:
            kind, message, hint = told["error"]
            raise cast("type[HbsegError]", getattr(errors, kind))(message, hint)
        else:
            return Measured.model_validate(told["measured"])
    return None


def _without_result(assignment: Assignment, code: int) -> Exception:
    what = f"the process that measured the network ({assignment.network})"
    if code == -signal.SIGKILL:
        return KilledError(
            f"{what} was killed, usually for its memory",
            "give the step more memory, or a smaller throughput_batch_size",
        )
    return RuntimeError(f"{what} ended with code {code} and no result")


def measure_here(assignment: Assignment, called: Called) -> Measured:
    """Return what this process measures of the network.

    Raises:
        ContractError: the engine or the checkpoint is damaged, or cannot run here.
    """
    batches = _batches(np.load(assignment.pictures), assignment.images)
    load = _engine(assignment) if assignment.network == "engine" else _eager(assignment)
    meter = GpuMeter() if runs_on_gpu(assignment.card) else CpuMeter()
    gc.collect()
    meter.begin()
    loaded: list[Network] = []

    def first_call() -> None:
        loaded.append(load())
        loaded[0](batches[0][:1])

    load_seconds = meter.seconds(first_call)
    calls = {
        len(batch_bhw): latency(
            loaded[0], batch_bhw, assignment, meter, after(called, index * assignment.calls)
        )
        for index, batch_bhw in enumerate(batches)
    }
    return Measured(
        device=meter.device,
        load_ms=load_seconds * 1000,
        memory_mib=meter.own_mib(),
        calls=calls,
    )


def runs_on_gpu(card: EngineCard) -> bool:
    """Return whether an engine runs on a GPU of this machine.

    An eager engine's card names no GPU, since it runs on one only where there is one.
    """
    if not ENGINE_KINDS[card.backend].gpu:
        return False
    import torch

    return torch.cuda.is_available()


def latency(
    network: Network, batch_bhw: Images, assignment: Assignment, meter: Meter, called: Called
) -> Latency:
    """Return the times of calls with one batch, uint8 [B, S, S], after the warm-up."""
    done, end = 0, time.perf_counter() + assignment.seconds
    while done < assignment.warmup and (done < 1 or time.perf_counter() < end):
        network(batch_bhw)
        done += 1
        called(done)
    times: list[float] = []
    end = time.perf_counter() + assignment.seconds
    while len(times) < assignment.iterations and (
        len(times) < LEAST_CALLS or time.perf_counter() < end
    ):
        times.append(meter.seconds(lambda: network(batch_bhw)))
        called(done + len(times))
    return _latency(times, len(batch_bhw))


def after(called: Called, before: int) -> Called:
    """Return what tells `called` of calls that follow `before` earlier ones."""
    return lambda done: called(before + done)


def _latency(times: list[float], images: int) -> Latency:
    p50, p95, p99 = np.percentile(np.array(times) * 1000, (50, 95, 99)).tolist()
    mean = float(np.mean(times))
    return Latency(
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        mean_ms=mean * 1000,
        images_per_second=images / mean,
        counted=len(times),
    )


def _batches(pictures_bhw: Images, images: Iterable[int]) -> list[Images]:
    return [pictures_bhw[np.arange(number) % len(pictures_bhw)] for number in images]


def _engine(assignment: Assignment) -> Callable[[], Network]:
    """Import what runs the engine, and return what opens it."""
    kind_of(assignment.card).load_opener()
    folder = Path(assignment.folder)

    def load() -> Network:
        engine = open_engine(
            FolderStore(folder),
            folder,
            batch_size=assignment.card.batch_size,
            threads=assignment.threads,
        )
        if isinstance(engine, DeviceEngine):
            return lambda images_bhw: next(iter(engine.stream([images_bhw])))
        return engine.logits

    return load


def _eager(assignment: Assignment) -> Callable[[], Network]:
    """Import torch and the encoders, and return what loads the network."""
    import torch

    from hbseg.ml.checkpoint import load_model

    device = torch.device("cuda" if runs_on_gpu(assignment.card) else "cpu")
    torch.set_num_threads(assignment.threads)
    torch.backends.cudnn.allow_tf32 = False  # fp32, as the reference of the engines is

    def load() -> Network:
        model = load_model(FolderStore(Path(assignment.folder))).model.to(device)

        def network(images_bhw: Images) -> object:
            with torch.inference_mode():
                return model(torch.from_numpy(images_bhw).to(device)[:, None].float())

        return network

    return load


class CpuMeter:
    """Wall time, and the process's resident memory.

    Where the kernel cannot forget earlier peaks, the largest memory is the one since the process
    began.
    """

    device = CPU

    def __init__(self) -> None:
        self._before = 0.0

    def begin(self) -> None:
        """See `Meter`."""
        forget_peak = "5"
        with suppress(OSError):  # kernels without CONFIG_PROC_PAGE_MONITOR, and sandboxes
            Path("/proc/self/clear_refs").write_text(forget_peak)
        self._before = _resident_mib("VmRSS")

    def own_mib(self) -> float:
        """See `Meter`."""
        # the kernel counts a little late, so a peak may come out below what was there before
        return max(0.0, _resident_mib("VmHWM") - self._before)

    def seconds(self, call: Callable[[], object]) -> float:
        """See `Meter`."""
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


class GpuMeter:
    """Times between two CUDA events, and what the network allocates on the GPU.

    torch knows the peak of its own allocator. What a library allocates beside it (weights of a
    TensorRT engine) is the device's used memory outside of that allocator.
    """

    def __init__(self) -> None:
        import torch

        self._cuda: Any = torch.cuda  # not all of it is typed
        self._cuda.init()
        self.device: str = self._cuda.get_device_name()
        self._outside = self._allocated = 0

    def begin(self) -> None:
        """See `Meter`."""
        self._cuda.synchronize()
        self._cuda.empty_cache()
        self._cuda.reset_peak_memory_stats()
        self._allocated = self._cuda.memory_allocated()
        self._outside = self._used_outside()

    def own_mib(self) -> float:
        """See `Meter`."""
        self._cuda.synchronize()
        allocated = self._cuda.max_memory_allocated() - self._allocated
        outside = self._used_outside() - self._outside
        return float(max(0, allocated) + max(0, outside)) / MIB

    def seconds(self, call: Callable[[], object]) -> float:
        """See `Meter`."""
        start, end = (self._cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000

    def _used_outside(self) -> int:
        free, total = self._cuda.mem_get_info()
        return int(total - free - self._cuda.memory_reserved())


def _resident_mib(name: str) -> float:
    """Return the memory that Linux calls by a name; elsewhere the largest one so far, for each."""
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB  # bytes on macOS


class _Teller:
    """Writes what the process has to tell, one line of JSON each."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines, self._told = lines, 0.0

    def called(self, done: int) -> None:
        """Tell of calls, at most about once a second."""
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._told = time.monotonic()
            self.tell({"done": done})

    def tell(self, message: dict[str, Any]) -> None:
        """Tell something."""
        self._lines.write(json.dumps(message) + "\n")
        self._lines.flush()


def main(descriptor: int) -> None:
    """Do what the module's text says."""
    with open(descriptor, "w") as lines:
        teller = _Teller(lines)
        try:
            assignment = Assignment.model_validate_json(sys.stdin.buffer.read())
            measured = measure_here(assignment, teller.called)
        except HbsegError as error:
            teller.tell({"error": [type(error).__name__, error.message, error.hint]})
        else:
            teller.tell({"measured": measured.model_dump(mode="json")})


if __name__ == "__main__":
    main(int(sys.argv[1]))
