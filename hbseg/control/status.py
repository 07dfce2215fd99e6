"""How far runs are: the state of each of their tasks, from storage and a backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from hbseg.errors import ContractError, HbsegError, NotFoundError, SpecError, VersionError
from hbseg.runs.attempts import latest_attempt, latest_record
from hbseg.runs.backend import ENDED, Backend, JobState, Phase
from hbseg.runs.chain_specs import chain_steps
from hbseg.runs.progress import ProgressReport, read_progress
from hbseg.runs.run import Run, RunClaim
from hbseg.runs.states import TaskState
from hbseg.runs.steps import Step, StepInput, TaskName, folder_named, is_step
from hbseg.storage.markers import Marker, read_marker
from hbseg.storage.store import READERS, Store


@dataclass(frozen=True)
class TaskStatus:
    """State of one task of a run, as storage and a backend know it."""

    prefix: str
    step: Step
    state: TaskState
    attempt: int = 0
    """Number of its latest execution, from 1; 0 where there was none, or it is not known."""
    reason: str = ""
    """One line: why it is pending, stalled or failed, how far it is, or what keeps it alive."""
    progress: ProgressReport | None = None
    """How far it is, while it runs and reports it."""


def not_met(found: Sequence[TaskStatus]) -> list[TaskStatus]:
    """Return the steps of a chain that have no task among those found; they wait."""
    met = {item.step for item in found}
    return [TaskStatus("", step, TaskState.WAITING) for step in chain_steps() if step not in met]


def statuses(backend: Backend, run: Run, claim: RunClaim) -> list[TaskStatus]:
    """Return the state of every known task of a run, in the order of the chain.

    Raises:
        UnreachableError: storage or the backend does not answer.
    """
    known = backend.snapshot([run])[run.name]
    found = _statuses(run, claim, known)
    return [_with_attempt(run, status, known.get(str(TaskName(status.prefix)))) for status in found]


def statuses_of_runs(
    backend: Backend, runs: Store, claims: Sequence[RunClaim]
) -> dict[str, list[TaskStatus]]:
    """Return the states of many runs' tasks by run name, as `statuses` does for one.

    The backend is asked once for all runs; storage is read for several runs at a time. The attempt
    of an ended task is 0 unless the backend knows it.

    Args:
        backend: where the runs run.
        runs: the folder of runs.
        claims: the runs, e.g. from `hbseg.runs.run.list_runs`.

    Raises:
        UnreachableError: storage or the backend does not answer.
    """
    from concurrent.futures import ThreadPoolExecutor

    opened = [Run(runs, claim.name) for claim in claims]
    known = backend.snapshot(opened)
    with ThreadPoolExecutor(READERS, thread_name_prefix="status") as readers:
        of_each = [known[run.name] for run in opened]
        found = readers.map(_statuses, opened, claims, of_each)
        return {run.name: of_run for run, of_run in zip(opened, found, strict=True)}


def _statuses(run: Run, claim: RunClaim, known: Mapping[str, JobState]) -> list[TaskStatus]:
    # a later version may have steps that this one does not know
    prefixes = {str(TaskName(prefix)): prefix for prefix in claim.steps if is_step(prefix)}
    for name in known:
        prefixes.setdefault(name, TaskName.parse(name).prefix)
    results = _Results(run)
    found = [
        _status(run, results, prefix, known.get(name), claim.steps.get(prefix, ""))
        for name, prefix in prefixes.items()
    ]
    order = list(Step)
    return sorted(found, key=lambda status: (order.index(status.step), status.prefix))


def _status(
    run: Run, results: _Results, prefix: str, state: JobState | None, summary: str
) -> TaskStatus:
    state = state or JobState(Phase.ABSENT)
    step = TaskName(prefix).step
    status = TaskStatus(prefix, step, state.phase.task_state, state.attempt, state.reason)
    try:
        return _with_results(run, results, status, state, summary)
    except VersionError as error:
        return replace(status, state=TaskState.UNKNOWN, reason=str(error))


def _with_results(
    run: Run, results: _Results, status: TaskStatus, state: JobState, summary: str
) -> TaskStatus:
    """Return the status with what storage has of the task. Raises VersionError."""
    if state.phase == Phase.PENDING:
        return status
    if state.phase == Phase.RUNNING:
        return _running(run, status)
    if results.marker(status.prefix) is not None:
        done = TaskState.DONE if results.is_current(status.prefix) else TaskState.STALE
        kept = state.reason if state.is_kept_alive and state.phase == Phase.SUCCEEDED else ""
        return replace(status, state=done, reason=kept)
    if state.phase in (Phase.ABSENT, Phase.SUCCEEDED):
        return _forgotten(run, replace(status, attempt=0, reason=""), summary)
    return status


def _with_attempt(run: Run, status: TaskStatus, state: JobState | None) -> TaskStatus:
    """Return the status of an ended task with its attempt, as far as storage answers."""
    if status.attempt or state is None or state.phase not in ENDED:
        return status
    if status.state == TaskState.WAITING:
        return status
    with suppress(HbsegError):
        name = str(TaskName(status.prefix))
        return replace(status, attempt=latest_attempt(run, status.step, name))
    return status


def _running(run: Run, status: TaskStatus) -> TaskStatus:
    """Return the status with its progress, or as stalled."""
    report = read_progress(run, status.step, status.attempt) if status.attempt else None
    if report is None or status.reason:
        return status
    silence = report.silence()
    if silence > report.stall_timeout / 2:
        reason = (
            f"rank {report.rank} has made no progress for {silence:.0f} s; "
            f"it will be stopped at {report.stall_timeout:.0f} s"
        )
        return replace(status, state=TaskState.STALLED, reason=reason, progress=report)
    return replace(status, reason=progress_line(report), progress=report)


def _forgotten(run: Run, status: TaskStatus, summary: str) -> TaskStatus:
    """Return how a task ended that the backend no longer knows, as storage has it."""
    if summary not in (TaskState.FAILED, TaskState.CANCELLED):
        return status
    record = latest_record(run, status.step, str(TaskName(status.prefix)))
    result = None if record is None else record.result
    if record is None or result is None or result.code == 0:
        return status
    return replace(status, state=TaskState(summary), attempt=record.number, reason=result.reason)


def progress_line(report: ProgressReport) -> str:
    """Return `epoch 3/10, step 120 of 400, 2.1 steps/s, about 4 min left`."""
    parts = []
    if report.epoch is not None:
        parts.append(f"epoch {report.epoch}" + (f"/{report.epochs}" if report.epochs else ""))
    parts.append(f"{report.unit.removesuffix('s')} {report.done} of {report.total}")
    left = report.seconds_left
    if left is not None:
        parts += [f"{report.rate:.3g} {report.unit}/s", f"about {_duration(left)} left"]
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


class _Results:
    """The markers of a run, each read once, and whether they are up to date with each other.

    Only inputs in the run itself are checked: neither the dataset nor a checkpoint that stage 2
    took from `init_from`.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._markers: dict[str, Marker | None] = {}

    def marker(self, prefix: str) -> Marker | None:
        """Return the marker of a folder; none where it is missing or damaged.

        Raises:
            VersionError: a newer hbseg wrote it.
        """
        if prefix not in self._markers:
            marker = None
            with suppress(NotFoundError, ContractError):
                marker = read_marker(self._run.folder.folder(prefix))
            self._markers[prefix] = marker
        return self._markers[prefix]

    def is_current(self, prefix: str) -> bool:
        """Return whether a folder was made from its inputs as they are now, and these in turn."""
        marker = self.marker(prefix)
        if marker is None:
            return False
        inputs = TaskName(prefix).step.row.inputs
        engines = {item.folder for item in inputs if item.match and item.name in marker.inputs}
        return all(
            self._is_input_current(prefix, item, marker.inputs.get(item.name))
            for item in inputs
            if item.folder is not None
            and (item.name in marker.inputs or item.folder not in engines)  # one engine may do
        )

    def _is_input_current(self, prefix: str, item: StepInput, digest: str | None) -> bool:
        if item.named_by and self._spec_names(prefix, item.named_by):
            return True  # it is outside the run
        sources = self._folders(str(item.folder))
        if digest is None:
            return not item.optional or all(self.marker(source) is None for source in sources)
        return any(self._is_made(source, digest) for source in sources)

    def _is_made(self, prefix: str, digest: str) -> bool:
        marker = self.marker(prefix)
        return marker is not None and marker.digest == digest and self.is_current(prefix)

    def _folders(self, name: str) -> list[str]:
        """Return the folders of the run that have this name, or are below the one that has it."""
        if folder_named(name).key is None:
            return [name]
        return [f"{name}/{key}" for key in self._run.folder.list_folders(name)]

    def _spec_names(self, prefix: str, field: str) -> bool:
        """Return whether the spec in a folder names an input outside the run."""
        folder, kind = self._run.folder.folder(prefix), TaskName(prefix).step.row.spec
        try:
            spec = kind.from_text(folder.get("spec.yaml"), source=f"{folder.url}/spec.yaml")
        except (NotFoundError, SpecError):
            return False
        return getattr(spec, field) is not None
