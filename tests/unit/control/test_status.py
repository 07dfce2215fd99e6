"""What the status of a run says of its tasks, over a backend that says what a test wants."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from hbseg.config.changes import in_one_line, spec_changes
from hbseg.config.specs import CompileSpec
from hbseg.control.status import progress_line, statuses, statuses_of_runs
from hbseg.control.waiting import wait_for_end
from hbseg.errors import NotFinished
from hbseg.runs.attempts import AttemptResult, claim_attempt, record_result
from hbseg.runs.backend import Backend, JobState, Phase
from hbseg.runs.progress import ProgressReport, progress_key
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
from hbseg.storage.markers import write_marker
from hbseg.storage.opening import open_store


class Said:
    """A backend that plays states back."""

    name, namespace = "said", "local"

    def __init__(self, *states: JobState, task: str = "stage1") -> None:
        self.states = states
        self.task = task
        self.cancelled: list[str] = []
        self.num_snapshots = 0

    def snapshot(self, runs: Sequence[Run]) -> Mapping[str, Mapping[str, JobState]]:
        self.num_snapshots += 1
        known = {self.task: self.states[-1]} if self.states else {}
        return {run.name: known for run in runs}

    def changes(self, run: Run, task_name: str, timeout: float | None = None) -> Iterator[JobState]:
        yield from self.states

    def wait(self, run: Run, task_name: str, timeout: float | None = None) -> JobState:
        return self.states[-1]

    def cancel(self, run: Run, task_name: str) -> bool:
        self.cancelled.append(task_name)
        return True


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(open_store(tmp_path), "main")
    run.claim(data="/data")
    return run


def status(run: Run, *states: JobState) -> tuple[str, int, str]:
    (found,) = statuses(cast(Backend, Said(*states)), run, run.read())
    return found.state, found.attempt, found.reason


def report(silent: float, **values: Any) -> ProgressReport:
    beat = datetime.now(UTC) - timedelta(seconds=silent)
    fields: dict[str, Any] = {"done": 120, "total": 400, "unit": "steps", "rank": 3}
    fields |= {"epoch": 3, "epochs": 10, "rate": 1.25, "stall_timeout": 900}
    return ProgressReport(**fields | values, beat=beat.isoformat(timespec="seconds"))


def test_a_pending_task_says_why(run: Run) -> None:
    assert status(run, JobState(Phase.PENDING, 0, None, "no GPU")) == ("pending", 0, "no GPU")


def test_a_running_task_says_how_far_it_is(run: Run) -> None:
    run.folder.put(progress_key(Step.STAGE1, 2), report(5).to_json())

    assert status(run, JobState(Phase.RUNNING, 2)) == (
        "running",
        2,
        "epoch 3/10, step 120 of 400, 1.25 steps/s, about 4 min left",
    )


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"epoch": None, "rate": 0.0, "unit": "images"}, "image 120 of 400"),
        ({"epochs": None, "rate": 4.0}, "epoch 3, step 120 of 400, 4 steps/s, about 70 s left"),
        ({"rate": 0.01}, "epoch 3/10, step 120 of 400, 0.01 steps/s, about 7.8 h left"),
    ],
)
def test_progress_tells_only_what_is_known(values: dict[str, Any], line: str) -> None:
    assert progress_line(report(0, **values)) == line


def test_a_task_without_progress_is_stalled_before_it_is_stopped(run: Run) -> None:
    run.folder.put(progress_key(Step.STAGE1, 1), report(500).to_json())

    state, _, reason = status(run, JobState(Phase.RUNNING, 1))

    assert state == "stalled"
    assert reason.startswith("rank 3 has made no progress for 50")
    assert reason.endswith("; it will be stopped at 900 s")


def test_a_step_that_is_done_and_kept_alive_says_by_what(run: Run) -> None:
    kept = JobState(Phase.SUCCEEDED, 1, 0, "sidecar x keeps it", is_kept_alive=True)
    assert status(run, kept) == ("waiting", 0, "")
    write_marker(run.folder.folder("stage1"), step="stage1", spec_hash="0", inputs={}, outputs={})

    assert status(run, kept) == ("done", 1, "sidecar x keeps it")
    failed = JobState(Phase.FAILED, 1, 70, "a bug; sidecar x keeps it", is_kept_alive=True)
    assert status(run, failed) == ("done", 1, "")


def test_a_failure_that_the_backend_has_forgotten_is_told_from_storage(run: Run) -> None:
    run.summarise(steps={"stage1": "failed"})
    number = claim_attempt(run, Step.STAGE1, "stage1").number
    result = AttemptResult(
        code=65, reason="bad", attempt=number, finished="2026-01-01T00:00:00+00:00"
    )
    record_result(run, Step.STAGE1, result)

    assert status(run) == ("failed", 1, "bad")


def test_the_states_of_many_runs_come_from_one_snapshot_and_their_markers(
    run: Run, tmp_path: Path
) -> None:
    other = Run(open_store(tmp_path), "other")
    other.claim(data="/data")
    write_marker(other.folder.folder("stage1"), step="stage1", spec_hash="0", inputs={}, outputs={})
    backend = Said(JobState(Phase.SUCCEEDED, 1, 0))

    found = statuses_of_runs(
        cast(Backend, backend), open_store(tmp_path), [run.read(), other.read()]
    )

    assert {name: [task.state for task in tasks] for name, tasks in found.items()} == {
        "main": ["waiting"],
        "other": ["done"],
    }
    assert backend.num_snapshots == 1


def test_waiting_tells_each_reason_once_and_gives_the_end(run: Run) -> None:
    task = Task(Step.COMPILE, CompileSpec(), run.folder.folder("engine/a"), "engine/a")
    a, b = (JobState(Phase.PENDING, 0, None, reason) for reason in ("a", "b"))
    done = JobState(Phase.SUCCEEDED, 1, 0)
    told: list[str] = []

    assert wait_for_end(cast(Backend, Said(a, a, b, done)), run, task, 9, tell=told.append) == done
    assert told == ["a", "b"]
    stuck = Said(a, b)
    with pytest.raises(NotFinished, match="did not start within 9 s and was cancelled: b"):
        wait_for_end(cast(Backend, stuck), run, task, 9)
    assert stuck.cancelled == ["engine-a"]


def test_changes_of_a_spec_are_told_by_their_paths() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": "x", "e": None}
    new = {"a": {"b": 2, "c": [1, 2]}, "d": "x", "e": 3, "f": {"g": True}}

    changes = spec_changes(old, new)

    assert changes == ["a.b: 1 -> 2", "e: none -> 3", "f.g: none -> True"]
    assert spec_changes(new, new) == []
    assert in_one_line(changes, 2) == "a.b: 1 -> 2, e: none -> 3 and 1 more"
