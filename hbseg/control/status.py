"""How far a run is: the state of each of its tasks, from storage and a backend."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from hbseg.config.specs import TrainSpec
from hbseg.errors import ContractError, NotFoundError, SpecError
from hbseg.runs.attempts import latest_record
from hbseg.runs.backend import Backend, JobState, Phase
from hbseg.runs.progress import ProgressReport, read_progress
from hbseg.runs.run import Run, RunClaim
from hbseg.runs.steps import Step, is_step, step_of
from hbseg.storage.markers import Marker, read_marker

STALLED = "stalled"
"""State of a task that runs and does not get on."""


@dataclass(frozen=True)
class TaskStatus:
    """State of one task of a run, as storage and a backend know it."""

    prefix: str
    step: Step
    state: str
    """`done`, `stale` where it was made from other inputs, the backend's phase, `stalled` where it
    runs and does not get on, or `waiting`."""
    attempt: int = 0
    reason: str = ""
    """One line: why it is pending, stalled or failed, or how far it is."""
    progress: ProgressReport | None = None
    """How far it is, where it runs and tells it."""


def statuses(backend: Backend, run: Run, claim: RunClaim) -> list[TaskStatus]:
    """Return the state of every task that the run has met, in the order of the chain.

    Raises:
        UnreachableError: storage does not answer.
    """
    known = {name: backend.state(run, name) for name in backend.tasks(run)}
    named = ((prefix.replace("/", "-"), prefix) for prefix in claim.steps)
    # a later version may have steps of which this one knows nothing
    prefixes = {name: prefix for name, prefix in named if is_step(name)}
    for name in known:
        prefixes.setdefault(name, _prefix(name))
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
    step = step_of(prefix.replace("/", "-"))
    if state is not None and state.phase == Phase.PENDING:
        return TaskStatus(prefix, step, state.phase, state.attempt, state.reason)
    if state is not None and state.phase == Phase.RUNNING:
        return _running(run, TaskStatus(prefix, step, state.phase, state.attempt, state.reason))
    if results.marker(prefix) is not None:
        told = "done" if results.is_current(prefix) else "stale"
        return TaskStatus(prefix, step, told, 0 if state is None else state.attempt)
    if state is None or state.phase in (Phase.ABSENT, Phase.SUCCEEDED):
        return _forgotten(run, TaskStatus(prefix, step, "waiting"), summary)
    return TaskStatus(prefix, step, state.phase, state.attempt, state.reason)


def _running(run: Run, status: TaskStatus) -> TaskStatus:
    """Return the status with its progress, or as stalled."""
    report = read_progress(run, status.step, status.attempt) if status.attempt else None
    if report is None or status.reason:
        return status
    silence = report.silence()
    if silence > report.stall_timeout / 2:
        reason = (
            f"rank {report.rank} has not got on for {silence:.0f} s; "
            f"it is stopped after {report.stall_timeout:.0f} s"
        )
        return replace(status, state=STALLED, reason=reason, progress=report)
    return replace(status, reason=progress_line(report), progress=report)


def _forgotten(run: Run, status: TaskStatus, summary: str) -> TaskStatus:
    """Return how a task ended that the backend no longer knows, as storage has it."""
    if summary not in (Phase.FAILED, Phase.CANCELLED):
        return status
    record = latest_record(run, status.step, status.prefix.replace("/", "-"))
    result = None if record is None else record.result
    if record is None or result is None or result.code == 0:
        return status
    return replace(status, state=summary, attempt=record.number, reason=result.reason)


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
    """The markers of a run, each read once, and whether they follow from each other.

    Only inputs in the run itself are looked at: neither the dataset nor a checkpoint that stage 2
    was given by `init_from`.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._markers: dict[str, Marker | None] = {}

    def marker(self, prefix: str) -> Marker | None:
        """Return the marker of a folder; none where it is missing or unreadable."""
        if prefix not in self._markers:
            self._markers[prefix] = None
            with suppress(NotFoundError, ContractError):
                self._markers[prefix] = read_marker(self._run.folder.folder(prefix))
        return self._markers[prefix]

    def is_current(self, prefix: str) -> bool:
        """Return whether a folder was made from what its inputs are now, and these likewise."""
        marker = self.marker(prefix)
        return marker is not None and all(
            any(self._is_made(source, digest) for source in sources)
            for name, digest in marker.inputs.items()
            if (sources := self._sources(prefix, name)) is not None
        )

    def _is_made(self, prefix: str, digest: str) -> bool:
        marker = self.marker(prefix)
        return marker is not None and marker.digest == digest and self.is_current(prefix)

    def _sources(self, prefix: str, name: str) -> list[str] | None:
        """Return the folders that an input may be; none where it is not in the run."""
        if name == "checkpoint":
            if prefix != Step.STAGE2:
                return [Step.STAGE2]
            return None if self._begins_elsewhere() else [Step.STAGE1]
        if name in ("stage1", "stage2", "valid", "infer"):
            return [name]
        if name in ("engine", "efficiency"):
            return [f"{name}/{key}" for key in self._run.folder.list_folders(name)]
        return None

    def _begins_elsewhere(self) -> bool:
        """Return whether stage 2 began with a checkpoint that is not the run's stage 1."""
        folder = self._run.folder.folder(Step.STAGE2)
        try:
            spec = TrainSpec.from_text(folder.get("spec.yaml"), source=f"{folder.url}/spec.yaml")
        except (NotFoundError, SpecError):
            return False
        return spec.init_from is not None


def _prefix(task_name: str) -> str:
    first, dash, rest = task_name.partition("-")
    return f"{first}/{rest}" if dash else first
