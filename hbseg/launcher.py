"""The launcher around one execution of a step, the same here and in a pod; it never loads torch.

It takes an attempt's number in storage, starts the step (by torchrun where it trains, one process
for each rank), keeps the ranks' logs and copies them to storage, finds the root cause of a
failure, tries again what may pass, and leaves `exit.json` in the job's folder, last of all.

    <job>/logs/<attempt>/<rank>.log   lines as `<time> <text>`; torchrun's own in `torchrun.log`
    <job>/failures/<attempt>/         records of failed ranks, written by the step
    <job>/exit.json                   how it ended (`hbseg.attempts.Ending`)

SIGTERM is passed on to the step, which has 25 s to leave a checkpoint. Whatever the launcher
started dies with it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from hbseg.attempts import Ending, claim_attempt, failure_key, log_folder, now
from hbseg.errors import HbsegError
from hbseg.placement import Placement
from hbseg.processes import tied, usable_cores
from hbseg.runs import Run
from hbseg.steps import TRAINING, Step
from hbseg.store import open_store

UPLOAD_SECONDS = 30.0
"""Between two copies of the logs to storage."""
STOP_SECONDS = 25.0
"""From SIGTERM to SIGKILL of the step; a pod has 30."""
TORCHRUN_STOP_SECONDS = 20
"""torchrun's own limit for its ranks, below ours."""
LAST_UPLOAD_SECONDS = 60.0
LAST_UPLOAD_SECONDS_STOPPED = 4.0
"""Limits of the last copy, after an end and after SIGTERM."""
LARGEST_LOG = 32 << 20
"""Bytes of a rank's log that are copied: its end."""
LONGEST_LINE = 1 << 20
LONGEST_PAUSE = 30.0
"""Seconds between two attempts; the first pause is 1 s, each next one twice as long."""

CANCELLED = 128 + signal.SIGTERM
KILLED = 128 + signal.SIGKILL
PERMANENT = frozenset({65, 66, 70, 76, 78})
"""Codes with which a step says that trying again does not help."""

_PREFIX = re.compile(rb"\[rank(\d+)\]:(.*)", re.DOTALL)
_TORCHRUN_STOPS = re.compile(r"Sending process (\d+) closing signal")
_TORCHRUN_RANK = re.compile(r"rank +: (\d+) \(local_rank")
_TORCHRUN_EXIT = re.compile(r"exitcode +: (-?\d+) \(pid: (\d+)\)")


@dataclass(frozen=True)
class Launch:
    """What a launcher is given."""

    job: Path
    """The job's folder."""
    module: str
    """Module of the step, started as `python -m`."""
    arguments: tuple[str, ...]
    """Arguments of the step, without `--attempt`."""
    step: Step
    run: Run
    task: str
    """Name of the task."""
    placement: Placement


def main(arguments: Sequence[str] | None = None) -> int:
    """Launch a step as the command line says, and return its final exit code."""
    parser = argparse.ArgumentParser(description="The launcher around one step of an hbseg run.")
    parser.add_argument("--job", required=True, type=Path, help="folder of the job")
    parser.add_argument("--module", required=True, help="module of the step")
    parser.add_argument("--placement", required=True, help="placement as JSON")
    parser.add_argument(
        "--claimed", action="store_true", help="start only if job.json names this process"
    )
    parser.add_argument("step_arguments", nargs="+", metavar="-- ARGUMENT", help="for the step")
    options = parser.parse_args(arguments)
    known = argparse.ArgumentParser(add_help=False)
    for name in ("step", "run-name", "runs", "prefix"):
        known.add_argument(f"--{name}", required=True)
    step, _ = known.parse_known_args(options.step_arguments)
    if options.claimed and not _is_claimed(options.job):
        return CANCELLED
    try:
        launch = Launch(
            job=options.job,
            module=options.module,
            arguments=tuple(options.step_arguments),
            step=Step(step.step),
            run=Run(open_store(step.runs), step.run_name),
            task=step.prefix.replace("/", "-"),
            placement=Placement.model_validate_json(options.placement),
        )
    except HbsegError as error:
        ending = _ending(error.step_exit_code, str(error))
        _write_ending(options.job, ending)
        return ending.code
    return execute(launch).code


def execute(launch: Launch) -> Ending:
    """Run the step until it has succeeded or its attempts are used up; return how it ended.

    Call it in the main thread: it handles SIGTERM, and the step dies with this thread.
    """
    with _stop_request() as stop:
        ending = _execute(launch, stop)
    _write_ending(launch.job, ending)
    return ending


def _execute(launch: Launch, stop: _StopRequest) -> Ending:
    failures, unexplained, pause = 0, 0, 1.0
    while True:
        ending = _attempt(launch, stop)
        if ending.code == 0 or stop.is_set:
            return ending
        failures += 1
        unexplained += ending.code == KILLED or ending.code < 128
        gone_on = ending.code in PERMANENT or unexplained > 1 or failures > launch.placement.retries
        _say(f"attempt {ending.attempt} failed with code {ending.code}: {ending.reason}")
        if gone_on:
            return ending
        _say(f"trying again in {pause:g} s")
        if stop.wait(pause):
            return _ending(CANCELLED, "cancelled by SIGTERM", ending.attempt)
        pause = min(2 * pause, LONGEST_PAUSE)


def _attempt(launch: Launch, stop: _StopRequest) -> Ending:
    """Run the step once."""
    try:
        number = claim_attempt(launch.run, launch.step, launch.task)
    except HbsegError as error:
        return _ending(error.step_exit_code, str(error))
    logs = RankLogs(launch.job / "logs" / str(number), torchrun=launch.step in TRAINING)
    failures = launch.job / "failures" / str(number)
    failures.mkdir(parents=True, exist_ok=True)
    torchrun_files = launch.job / "torchrun"
    shutil.rmtree(torchrun_files, ignore_errors=True)
    upload = _Upload(launch.run, launch.step, number, logs.folder)
    upload.start()
    try:
        code = _run(
            [*_command(launch, torchrun_files), "--attempt", str(number)],
            step_environment(launch.step, launch.placement, failures),
            logs,
            stop,
        )
    finally:
        logs.close()
        shutil.rmtree(torchrun_files, ignore_errors=True)
    ending = _explained(code, logs, failures, number, stopped=stop.is_set)
    upload.finish(ending, LAST_UPLOAD_SECONDS_STOPPED if stop.is_set else LAST_UPLOAD_SECONDS)
    return ending


def _command(launch: Launch, torchrun_files: Path) -> list[str]:
    if launch.step not in TRAINING:
        return [sys.executable, "-m", launch.module, *launch.arguments]
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--standalone", "--local-addr", "127.0.0.1"),
        *("--nnodes", "1", "--nproc-per-node", str(launch.placement.processes_per_node)),
        *("--max-restarts", "0", "--shutdown-timeout", str(TORCHRUN_STOP_SECONDS)),
        *("--log-dir", str(torchrun_files), "--tee", "3"),
        *("--log-line-prefix-template", "[rank${rank}]:"),
        # without `--` torchrun looks for its own flags among the step's
        *("-m", "--", launch.module, *launch.arguments),
    ]


def step_environment(step: Step, placement: Placement, failures: Path) -> dict[str, str]:
    """Return the environment of a step's processes; threads are shared out between them."""
    processes = placement.processes_per_node if step in TRAINING else 1
    threads = str(placement.threads_per_process or max(1, usable_cores() // processes))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "NUMBA_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "passive",  # waiting threads that spin starve the other processes
        "PYTHONUNBUFFERED": "1",
        "HBSEG_FAILURES": str(failures),
    }
    if placement.nodes == 1 and sys.platform == "linux":
        # gloo looks the host's name up otherwise, which many laptops cannot resolve
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


class RankLogs:
    """Files with the lines of each rank, each line with its time."""

    def __init__(self, folder: Path, *, torchrun: bool) -> None:
        self.folder = folder
        self._torchrun = torchrun
        self._files: dict[str, BinaryIO] = {}
        self._partial = b""
        self.last_line = ""
        """Last line of a rank, for failures without a record."""
        folder.mkdir(parents=True, exist_ok=True)

    def feed(self, data: bytes) -> None:
        """Take a piece of the step's output."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._write(line)
        if len(self._partial) > LONGEST_LINE:
            self._write(self._partial)
            self._partial = b""

    def close(self) -> None:
        """Write what is left."""
        if self._partial:
            self._write(self._partial)
        for file in self._files.values():
            file.close()

    def own_text(self) -> str:
        """Return what torchrun itself said."""
        with suppress(OSError):
            return (self.folder / "torchrun.log").read_text(errors="replace")
        return ""

    def _write(self, line: bytes) -> None:
        line = line.rstrip(b"\r")
        name = "torchrun" if self._torchrun else "0"
        match = _PREFIX.match(line) if self._torchrun else None
        if match is not None:
            name, line = match[1].decode(), match[2].lstrip(b" ") if match[2].strip() else b""
        if name != "torchrun" and line.strip():
            self.last_line = line.decode(errors="replace").strip()
        if name not in self._files:
            self._files[name] = (self.folder / f"{name}.log").open("ab", buffering=0)
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        self._files[name].write(f"{stamp}Z ".encode() + line + b"\n")


def _run(
    command: Sequence[str], environment: Mapping[str, str], logs: RankLogs, stop: _StopRequest
) -> int:
    """Run the step's command to its end and return its code, 128 + n for signal n."""
    process = subprocess.Popen(
        tied(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
    )
    kill_at: float | None = None
    with selectors.DefaultSelector() as selector, cast(BinaryIO, process.stdout) as output:
        os.set_blocking(output.fileno(), False)
        selector.register(output, selectors.EVENT_READ)
        selector.register(stop.wakeup, selectors.EVENT_READ)
        open_end = True
        while process.poll() is None:
            if stop.is_set and kill_at is None:
                _signal_group(process.pid, signal.SIGTERM)
                kill_at = time.monotonic() + STOP_SECONDS
            if kill_at is not None and time.monotonic() >= kill_at:
                _signal_group(process.pid, signal.SIGKILL)
                kill_at = time.monotonic() + STOP_SECONDS
            limit = None if kill_at is None else max(0.0, kill_at - time.monotonic())
            for key, _ in selector.select(limit):
                if key.fileobj is output:
                    if open_end and not _feed(output.fileno(), logs):
                        open_end = False
                        selector.unregister(output)
                else:
                    stop.drain()
        # what the step left in its group ends with it, and no longer holds the pipe open
        _signal_group(process.pid, signal.SIGKILL)
        if open_end:
            _feed(output.fileno(), logs)
    code = process.returncode
    return 128 - code if code < 0 else code


def _feed(descriptor: int, logs: RankLogs) -> bool:
    """Take all that lies in the pipe; return false at its end."""
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return True
        if not data:
            return False
        logs.feed(data)


def _signal_group(group: int, signum: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


def _explained(code: int, logs: RankLogs, failures: Path, number: int, *, stopped: bool) -> Ending:
    """Return how the attempt ended: the root cause, where its code is not 0."""
    if code == 0:
        return _ending(0, "", number)
    if stopped:
        return _ending(CANCELLED, "cancelled by SIGTERM", number)
    exits = _exits_by_themselves(logs.own_text())
    # A rank that a signal ended leaves no record, and its peers fail only because it is gone.
    for rank, rank_code in exits.items():
        if rank_code > 128:
            return _ending(rank_code, _signal_reason(f"rank {rank}", rank_code - 128), number)
    record = _earliest_record(failures)
    if record is not None:
        return _ending(*record, number)
    for rank, rank_code in exits.items():
        return _ending(rank_code, _no_record(f"rank {rank}", rank_code, logs), number)
    if code > 128:
        return _ending(code, _signal_reason("the step", code - 128), number)
    return _ending(code, _no_record("the step", code, logs), number)


def _no_record(what: str, code: int, logs: RankLogs) -> str:
    last = f"; last line: {logs.last_line[:300]}" if logs.last_line else ""
    return f"{what} ended with exit code {code} and left no record{last}"


def _signal_reason(what: str, signum: int) -> str:
    try:
        name = signal.Signals(signum).name
    except ValueError:
        name = f"signal {signum}"
    cause = ", perhaps for want of memory" if signum == signal.SIGKILL else ""
    return f"{what} was killed by {name}{cause}"


def _exits_by_themselves(report: str) -> dict[int, int]:
    """Return rank and code of the ranks that failed before torchrun stopped the others.

    Read from torchrun's own words: it exits with 1 whatever its ranks' codes were, and its times
    cannot tell which one was first.
    """
    stopped = {match[1] for match in _TORCHRUN_STOPS.finditer(report)}
    exits: dict[int, int] = {}
    rank = 0
    for line in report.splitlines():
        if match := _TORCHRUN_RANK.search(line):
            rank = int(match[1])
        elif (match := _TORCHRUN_EXIT.search(line)) and match[2] not in stopped:
            code = int(match[1])
            exits[rank] = 128 - code if code < 0 else code
    return exits


def _earliest_record(failures: Path) -> tuple[int, str] | None:
    """Return code and reason of the rank that failed first.

    Ranks that torchrun stopped because another one failed say 143; theirs is no cause.
    """
    records = []
    for path in failures.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(path.read_bytes())
            code, reason = int(record["code"]), str(record["reason"])
            records.append((code == CANCELLED, float(record["time"]), code, reason))
    if not records or min(records)[0]:
        return None
    _, _, code, reason = min(records)
    return code, reason


class _Upload(threading.Thread):
    """Copies an attempt's logs to storage; storage that is down costs a warning, not the step."""

    def __init__(self, run: Run, step: Step, number: int, folder: Path) -> None:
        super().__init__(name="log-upload", daemon=True)
        self._run, self._step, self._number, self._folder = run, step, number, folder
        self._done = threading.Event()
        self._ending: Ending | None = None
        self._sizes: dict[str, int] = {}

    def run(self) -> None:
        """Copy every 30 s, and a last time when the attempt has ended."""
        while not self._done.wait(UPLOAD_SECONDS):
            self._copy()
        ending = self._ending
        if ending is not None and ending.code != 0:
            self._put(failure_key(self._step, self._number), ending.to_json())
        self._copy()

    def finish(self, ending: Ending, limit: float) -> None:
        """Write the record of a failure and the logs as they are now, within `limit` seconds."""
        self._ending = ending
        self._done.set()
        self.join(limit)
        if self.is_alive():
            _say("storage does not answer: the end of the logs is only here")

    def _copy(self) -> None:
        for path in sorted(self._folder.glob("*.log")):
            size = path.stat().st_size
            if self._sizes.get(path.name) != size:
                key = f"{log_folder(self._step, self._number)}/{path.name}"
                if not self._put(key, _end_of(path)):
                    return
                self._sizes[path.name] = size

    def _put(self, key: str, data: bytes) -> bool:
        try:
            self._run.folder.put(key, data)
        except HbsegError as error:
            _say(f"warning: {key} is not in storage: {error}")
            return False
        return True


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LARGEST_LOG))
        data = file.read(LARGEST_LOG)
    return data.partition(b"\n")[2] if size > LARGEST_LOG else data


class _StopRequest:
    """SIGTERM or SIGINT arrived; any signal, SIGCHLD too, makes `wakeup` readable."""

    def __init__(self, wakeup: socket.socket) -> None:
        self.wakeup = wakeup
        self.is_set = False

    def set(self, signum: int, frame: object) -> None:
        self.is_set = True

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while self.wakeup.recv(4096):
                pass

    def wait(self, seconds: float) -> bool:
        """Return after `seconds`, or when the request arrives; return whether it has."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.wakeup, selectors.EVENT_READ)
            while not self.is_set and (left := deadline - time.monotonic()) > 0:
                selector.select(left)
                self.drain()
        return self.is_set


@contextmanager
def _stop_request() -> Iterator[_StopRequest]:
    wakeup, written = socket.socketpair()
    with wakeup, written:
        wakeup.setblocking(False)
        written.setblocking(False)
        stop = _StopRequest(wakeup)
        before = {
            signum: signal.signal(signum, handler)
            for signum, handler in (
                (signal.SIGTERM, stop.set),
                (signal.SIGINT, stop.set),
                (signal.SIGCHLD, lambda signum, frame: None),
            )
        }
        old = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        try:
            yield stop
        finally:
            signal.set_wakeup_fd(old)
            for signum, handler in before.items():
                signal.signal(signum, handler)


def _is_claimed(job: Path) -> bool:
    """Return whether `job.json` names this process, once its starter has written it or is gone."""
    sys.stdin.buffer.read()
    try:
        claim = json.loads((job / "job.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(claim, dict) and claim.get("pid") == os.getpid()


def _ending(code: int, reason: str, attempt: int = 0) -> Ending:
    return Ending(code=code, reason=reason, attempt=attempt, finished=now())


def _write_ending(job: Path, ending: Ending) -> None:
    temporary = job / "exit.json.tmp"
    temporary.write_bytes(ending.to_json())
    os.replace(temporary, job / "exit.json")


def _say(text: str) -> None:
    print(f"{now()} {text}", file=sys.stderr, flush=True)
