"""The local backend: each task is a launcher process of this machine.

    <state>/<runs>/<run>/<task>/job.json     who executes it: process, placement, start
                               /spec.yaml    its spec, as the step reads it
                               /exit.json    how it ended
                               /cancelled    it was told to stop
                               /logs/<attempt>/<rank>.log, /work, /failures, /launcher.log

`<runs>` is a short hash of the URL of the runs. The state says only what runs here; what was
achieved is in storage, so the folder may be deleted while nothing runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from hbseg.config.placement import Placement
from hbseg.documents import Document, load_yaml
from hbseg.errors import (
    ConflictError,
    DeniedError,
    HbsegError,
    SpecError,
    UsageError,
    VersionError,
)
from hbseg.exit_codes import StepExit
from hbseg.launcher.main import STOP_SECONDS
from hbseg.runs.attempts import AttemptResult
from hbseg.runs.backend import JobState, Phase, RunEvent
from hbseg.runs.logs import (
    attempts_here,
    lines_of_file,
    log_files,
    marked,
    merged_lines,
    new_lines,
    stored_logs,
)
from hbseg.runs.run import LOCAL, Run
from hbseg.runs.step_call import StepCall, runs_url
from hbseg.runs.steps import SHORT, Step
from hbseg.runs.task import Task
from hbseg.storage.files import write_atomically
from hbseg.storage.markers import MARKER
from hbseg.system.clock import now
from hbseg.system.processes import (
    ProcessId,
    dies_with_parent,
    identified,
    is_alive,
    send,
    wait_for_end,
)

CANCEL_SECONDS = STOP_SECONDS + 10.0
"""Seconds from a cancel's SIGTERM to the launcher's SIGKILL."""
FOLLOW_SECONDS = 0.2
"""Seconds between two checks for new log lines."""


class Job(Document):
    """`job.json`: the launcher of a task."""

    kind: Literal["Job"] = "Job"
    task: str
    step: Step
    spec_hash: str
    pid: int
    birth: float
    """Start of the process, as `hbseg.system.processes` defines it."""
    dies_with_parent: bool = Field(alias="tied")
    """Whether it ends with the process that started it."""
    placement: Placement
    started: str
    """ISO 8601, UTC."""

    @property
    def process(self) -> ProcessId:
        """The launcher's process."""
        return ProcessId(self.pid, self.birth)


class LocalBackend:
    """Runs tasks as processes of this machine.

    With `dies_with_parent`, what it starts ends with the thread that called `submit`, whatever ends
    that thread; without, it keeps running.
    """

    name = "local"
    namespace = LOCAL

    def __init__(
        self,
        state: Path | None = None,
        *,
        dies_with_parent: bool = False,
        modules: Mapping[Step, str] | None = None,
    ) -> None:
        self._state = Path(os.path.abspath(state or default_state()))
        self._dies_with_parent = dies_with_parent
        self._modules = modules or {step: step.row.module for step in Step}

    def dry_run(self, call: StepCall, placement: Placement) -> list[dict[str, Any]]:
        """Refuse: no server creates objects here. Raises UsageError."""
        del call, placement
        raise UsageError("--dry-run=server needs a cluster", "use --dry-run")

    def submit(self, run: Run, task: Task, placement: Placement, *, data: str) -> JobState:
        """Start the task unless it already runs, and return its state.

        Raises:
            UsageError: the placement has more than one node.
            DeniedError: the state folder cannot be written.
            ConflictError: the task runs with another spec.
            VersionError: a newer hbseg started the task last.
        """
        if placement.nodes > 1:
            raise UsageError(
                f"the local backend has one node, asked for {placement.nodes}",
                f"use -j 1x{placement.nodes * placement.processes_per_node}",
            )
        job = self._job(run, task.name)
        with self._locked(run):
            if self._is_running(job):
                self._check_spec(run, task, job)
                return self.state(run, task.name)
            _clear(job)
            (job / "spec.yaml").write_text(task.spec.to_yaml(), encoding="utf-8")
            task.folder.delete(MARKER)
            self._start(run, task, placement, data, job)
        return self.state(run, task.name)

    def state(self, run: Run, task_name: str) -> JobState:
        """Return the state of a task."""
        job = self._job(run, task_name)
        try:
            if _read_job(job) is None:
                return JobState(Phase.ABSENT)
        except VersionError as error:
            return JobState(Phase.UNKNOWN, reason=str(error))
        attempt = max(attempts_here(job), default=0)
        if self._is_running(job):
            return JobState(Phase.RUNNING, attempt)
        result = _read_result(job)
        if result is not None and result.code == 0:
            return JobState(Phase.SUCCEEDED, result.attempt, 0)
        if (job / "cancelled").exists():
            return JobState(Phase.CANCELLED, attempt, StepExit.TERMINATED, "cancelled")
        if result is None:
            return JobState(Phase.FAILED, attempt, StepExit.KILLED, "killed, with its launcher")
        return JobState(Phase.FAILED, result.attempt, result.code, result.reason)

    def snapshot(self, runs: Sequence[Run]) -> dict[str, dict[str, JobState]]:
        """Return the state of every task that this machine knows, by run name and task name."""
        return {run.name: {name: self.state(run, name) for name in self.tasks(run)} for run in runs}

    def wait(self, run: Run, task_name: str, timeout: float | None = None) -> JobState:
        """Return the state when the task has ended, or its state after `timeout` seconds."""
        job = _read_job(self._job(run, task_name))
        if job is not None:
            wait_for_end(job.process, timeout)
        return self.state(run, task_name)

    def changes(self, run: Run, task_name: str, timeout: float | None = None) -> Iterator[JobState]:
        """Yield the state now and, if it runs, when it has ended or after `timeout` seconds."""
        state = self.state(run, task_name)
        yield state
        if state.phase == Phase.RUNNING:
            yield self.wait(run, task_name, timeout)

    def spec_of(self, run: Run, task_name: str) -> Mapping[str, Any] | None:
        """Return the spec that the task was last started with here, or none."""
        with suppress(OSError, HbsegError):
            path = self._job(run, task_name) / "spec.yaml"
            loaded = load_yaml(path.read_bytes(), source=str(path))
            return loaded if isinstance(loaded, Mapping) else None
        return None

    def events(self, run: Run) -> list[RunEvent]:
        """Return nothing: all that happens to a run here is in storage."""
        del run
        return []

    def logs(
        self, run: Run, task_name: str, *, rank: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        """Yield `<time> <text>` of the latest attempt, `[rank] ` before the text of several ranks.

        With `follow`, it continues through further attempts until the task has ended; a task that
        ended before its first attempt has no lines. Where this machine knows nothing of the task,
        the logs come from storage.

        Raises:
            NotFoundError: there are no logs.
        """
        job = self._job(run, task_name)
        number = max(attempts_here(job), default=0)
        if follow and _read_job(job) is not None:
            yield from self._followed(run, task_name, job, rank)
        elif number or self._is_running(job):
            files = log_files(job / "logs" / str(number), rank)
            yield from merged_lines({name: lines_of_file(path) for name, path in files.items()})
        else:
            yield from stored_logs(run, task_name, rank)

    def cancel(self, run: Run, task_name: str) -> bool:
        """Stop a task and wait until it has stopped; return whether it was running."""
        folder = self._job(run, task_name)
        job = _read_job(folder)
        if job is None or not is_alive(job.process):
            return False
        (folder / "cancelled").touch()
        send(job.process, signal.SIGTERM)
        if not wait_for_end(job.process, CANCEL_SECONDS):
            send(job.process, signal.SIGKILL)
            wait_for_end(job.process)
        return True

    def tasks(self, run: Run) -> list[str]:
        """Return the names of the run's tasks that this machine knows, sorted."""
        folder = self._run(run)
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if _is_known(path))

    def folder(self, run: Run) -> Path:
        """Return the folder with what this machine keeps of a run: logs, specs, states."""
        return self._run(run)

    def forget(self, run: Run) -> None:
        """Remove what this machine keeps of a run.

        Raises:
            ConflictError: one of its tasks runs.
        """
        with self._locked(run):
            for name in self.tasks(run):
                if self._is_running(self._job(run, name)):
                    raise ConflictError(
                        f"{name} of run {run.name} is running", f"run: hbseg cancel {run.name}"
                    )
            shutil.rmtree(self._run(run), ignore_errors=True)

    @contextmanager
    def exclusive(self, run: Run) -> Iterator[Callable[[], None]]:
        """Lock the run against other pipelines while the context is open.

        Raises:
            ConflictError: another one works on it.
        """
        path = self._run(run).with_name(f"{run.name}.pipeline")
        with _state_file(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConflictError(
                    f"another pipeline is at work on run {run.name}",
                    f"see: hbseg pipeline status {run.name}",
                ) from None
            yield lambda: None  # the kernel drops the lock with its holder alone

    def _start(self, run: Run, task: Task, placement: Placement, data: str, job: Path) -> None:
        """Start the launcher; it waits until `job.json` names it, so that none is ever lost."""
        command = [
            *(sys.executable, "-m", "hbseg_jobs.launch", "--claimed", "--job", str(job)),
            *("--module", self._modules[task.step]),
            *("--placement", placement.for_launcher()),
            "--",
            *StepCall.of(run, task, data=data).arguments(
                spec_file=str(job / "spec.yaml"), work=str(job / "work")
            ),
        ]
        with (job / "launcher.log").open("ab") as log:
            launcher = subprocess.Popen(
                dies_with_parent(command) if self._dies_with_parent else command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _STARTED.append(launcher)
        process = identified(launcher.pid)
        if process is not None:
            document = Job(
                task=task.name,
                step=task.step,
                spec_hash=task.spec.digest(),
                pid=process.pid,
                birth=process.birth,
                dies_with_parent=self._dies_with_parent,
                placement=placement,
                started=now(),
            )
            write_atomically(job / "job.json", document.to_json())
        if launcher.stdin is not None:
            launcher.stdin.close()

    def _check_spec(self, run: Run, task: Task, job: Path) -> None:
        running = _read_job(job)
        if running is not None and running.spec_hash != task.spec.digest():
            raise ConflictError(
                f"{task.prefix} of run {run.name} runs with another spec",
                f"see: hbseg status {run.name}, or stop it: hbseg cancel {run.name}",
            )

    def _is_running(self, job: Path) -> bool:
        _reap()
        document = _read_job(job)
        return document is not None and is_alive(document.process)

    def _followed(self, run: Run, task_name: str, job: Path, rank: int | None) -> Iterator[str]:
        offsets: dict[Path, int] = {}
        first = max(attempts_here(job), default=0)
        ended = False
        while True:
            for number in (n for n in attempts_here(job) if n >= first):
                files = log_files(job / "logs" / str(number), rank)
                several = sum(name.isdigit() for name in files) > 1
                for name, path in files.items():
                    for line in new_lines(path, offsets):
                        yield marked(line, name) if several else line
            if ended:
                return
            ended = self.wait(run, task_name, FOLLOW_SECONDS).phase != Phase.RUNNING

    def _run(self, run: Run) -> Path:
        digest = hashlib.sha256(runs_url(run).encode()).hexdigest()[:SHORT]
        return self._state / digest / run.name

    def _job(self, run: Run, task_name: str) -> Path:
        return self._run(run) / task_name

    @contextmanager
    def _locked(self, run: Run) -> Iterator[None]:
        """Hold the run's lock during a submit."""
        folder = self._run(run)
        with _state_file(folder.with_name(f"{run.name}.lock")) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def default_state() -> Path:
    """Return the folder of the local backend's state: `HBSEG_STATE`, else the user's.

    Where there is no home, or one that cannot be written, a private folder for temporary files.
    """
    if named := os.environ.get("HBSEG_STATE"):
        return Path(named)
    with suppress(RuntimeError, OSError):
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        folder = Path(base) / "hbseg"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    folder = Path(tempfile.gettempdir()) / f"hbseg-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise DeniedError(f"{folder} belongs to somebody else", "set HBSEG_STATE to a folder")
    return folder


_STARTED: list[subprocess.Popen[bytes]] = []
"""Launchers that this process started; they are reaped, but nothing waits for them."""


def _reap() -> None:
    _STARTED[:] = [process for process in _STARTED if process.poll() is None]


def _clear(job: Path) -> None:
    """Make the job's folder ready for another execution; the step's own files in `work` stay."""
    try:
        job.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeniedError(
            f"state folder {job} cannot be made ({error.strerror})", "set HBSEG_STATE to a folder"
        ) from None
    for name in ("job.json", "cancelled", "exit.json"):
        (job / name).unlink(missing_ok=True)
    for name in ("logs", "failures", "progress"):
        shutil.rmtree(job / name, ignore_errors=True)


@contextmanager
def _state_file(path: Path) -> Iterator[int]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeniedError(
            f"state file {path} cannot be written ({error.strerror})",
            "set HBSEG_STATE to a folder",
        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_job(job: Path) -> Job | None:
    """Return who executes a task; none where it is missing or damaged. Raises VersionError."""
    with suppress(OSError, SpecError):
        return Job.from_text((job / "job.json").read_bytes(), source=str(job / "job.json"))
    return None


def _is_known(job: Path) -> bool:
    """Return whether a task was started here, be it by a newer hbseg."""
    try:
        return _read_job(job) is not None
    except VersionError:
        return True


def _read_result(job: Path) -> AttemptResult | None:
    with suppress(OSError, HbsegError):
        return AttemptResult.from_text((job / "exit.json").read_bytes(), source=str(job))
    return None


__all__ = ["Job", "LocalBackend", "default_state"]
