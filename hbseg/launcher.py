"""The launcher around one execution of a step, the same here and in a pod; it never loads torch.

It takes an attempt's number in storage, starts the step (by torchrun where it trains, one process
for each rank), keeps the ranks' logs and copies them to storage, finds the root cause of a
failure, tries again what may pass, and leaves `exit.json` in the job's folder; after that it only
puts the step's state into the run's summary, where storage answers.

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
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from hbseg.attempts import Ending, claim_attempt, summary_problem
from hbseg.errors import HbsegError
from hbseg.markers import read_marker
from hbseg.placement import Placement
from hbseg.processes import tied, usable_cores
from hbseg.rank_logs import LogUpload, RankLogs, say
from hbseg.root_cause import CANCELLED, KILLED, PERMANENT, ended, explained
from hbseg.runs import Run
from hbseg.steps import TRAINING, Step
from hbseg.stop_request import StopRequest, stop_request
from hbseg.store import open_store

STOP_SECONDS = 25.0
"""From SIGTERM to SIGKILL of the step; a pod has 30."""
TORCHRUN_STOP_SECONDS = 20
"""torchrun's own limit for its ranks, below ours."""
LAST_UPLOAD_SECONDS = 60.0
LAST_UPLOAD_SECONDS_STOPPED = 4.0
"""Limits of the last copy, after an end and after SIGTERM."""
SUMMARY_SECONDS = 4.0
"""Limit of writing the run's summary, which is for listings alone."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts; the first pause is 1 s, each next one twice as long."""


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
    prefix: str
    """The task's folder in the run."""
    placement: Placement

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.prefix.replace("/", "-")


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
            prefix=step.prefix,
            placement=Placement.model_validate_json(options.placement),
        )
    except HbsegError as error:
        ending = ended(error.step_exit_code, str(error))
        _write_ending(options.job, ending)
        return ending.code
    return execute(launch).code


def execute(launch: Launch) -> Ending:
    """Run the step until it has succeeded or its attempts are used up; return how it ended.

    Call it in the main thread: it handles SIGTERM, and the step dies with this thread.
    """
    with stop_request() as stop:
        ending = _execute(launch, stop)
    _write_ending(launch.job, ending)
    _summarise(launch, {0: "done", CANCELLED: "cancelled"}.get(ending.code, "failed"))
    return ending


def _execute(launch: Launch, stop: StopRequest) -> Ending:
    failures, unexplained, pause = 0, 0, 1.0
    while True:
        ending = _attempt(launch, stop)
        if ending.code == 0 or stop.is_set:
            return ending
        failures += 1
        unexplained += ending.code == KILLED or ending.code < 128
        gone_on = ending.code in PERMANENT or unexplained > 1 or failures > launch.placement.retries
        say(f"attempt {ending.attempt} failed with code {ending.code}: {ending.reason}")
        if gone_on:
            return ending
        say(f"trying again in {pause:g} s")
        if stop.wait(pause):
            return ended(CANCELLED, "cancelled by SIGTERM", ending.attempt)
        pause = min(2 * pause, LONGEST_PAUSE)


def _attempt(launch: Launch, stop: StopRequest) -> Ending:
    """Run the step once."""
    try:
        number = claim_attempt(launch.run, launch.step, launch.task)
    except HbsegError as error:
        return ended(error.step_exit_code, str(error))
    _summarise(launch, "running")
    logs = RankLogs(launch.job / "logs" / str(number), torchrun=launch.step in TRAINING)
    failures = launch.job / "failures" / str(number)
    failures.mkdir(parents=True, exist_ok=True)
    torchrun_files = launch.job / "torchrun"
    shutil.rmtree(torchrun_files, ignore_errors=True)
    upload = LogUpload(launch.run, launch.step, number, logs.folder)
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
    ending = explained(code, logs, failures, number, stopped=stop.is_set)
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


def _run(
    command: Sequence[str], environment: Mapping[str, str], logs: RankLogs, stop: StopRequest
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


def _is_claimed(job: Path) -> bool:
    """Return whether `job.json` names this process, once its starter has written it or is gone."""
    sys.stdin.buffer.read()
    try:
        claim = json.loads((job / "job.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(claim, dict) and claim.get("pid") == os.getpid()


def _summarise(launch: Launch, state: str) -> None:
    """Put the step's state into the run's summary, as far as storage answers in time."""

    def dice() -> float | None:
        if state != "done" or launch.step not in TRAINING:
            return None
        return read_marker(launch.run.folder.folder(launch.prefix)).metrics.get("dice")

    def write() -> None:
        if problem := summary_problem(launch.run, {launch.prefix: state}, dice):
            say(problem)

    writer = threading.Thread(target=write, name="summary", daemon=True)
    writer.start()
    writer.join(SUMMARY_SECONDS)
    if writer.is_alive():
        say(f"warning: storage does not answer: the listing may not say that the step is {state}")


def _write_ending(job: Path, ending: Ending) -> None:
    temporary = job / "exit.json.tmp"
    temporary.write_bytes(ending.to_json())
    os.replace(temporary, job / "exit.json")
