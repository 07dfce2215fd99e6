"""What a notebook or a page does with runs, over a real folder and a backend that plays a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hbseg.config.placement import Placement
from hbseg.config.specs import TrainSpec
from hbseg.control import verbs
from hbseg.control.pipeline import Pipeline, Started
from hbseg.control.verbs import Submitted
from hbseg.data.places import version_folder
from hbseg.errors import (
    Cancelled,
    ConflictError,
    HbsegError,
    NotFinished,
    NotFoundError,
    StepFailed,
    UnreachableError,
)
from hbseg.runs.backend import ACTIVE, ENDED, Backend, JobState, Phase, RunEvent
from hbseg.runs.chain import make_task
from hbseg.runs.chain_specs import ChainSpecs
from hbseg.runs.run import Run
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import write_marker
from hbseg.storage.store import Store

VERSION = "0123456789abcdef"
SPEC = TrainSpec.from_mapping({"model": {}, "dataset": {"version": VERSION}}, source="x")
PENDING, RUNNING = JobState(Phase.PENDING), JobState(Phase.RUNNING, 1)
KEPT = JobState(Phase.SUCCEEDED, 1, 0, "sidecar x keeps it", is_kept_alive=True)
SUCCEEDED, ABSENT = JobState(Phase.SUCCEEDED, 1, 0), JobState(Phase.ABSENT)


class RecordingStore(FolderStore):
    """A folder that notes in a journal which objects are deleted."""

    def __init__(self, root: Path, journal: list[str]) -> None:
        super().__init__(root)
        self.journal = journal

    def folder(self, path: str) -> RecordingStore:
        return RecordingStore(Path(self.url) / path, self.journal)

    def delete(self, key: str) -> None:
        self.journal.append(f"delete {key}")
        super().delete(key)


class ContendedStore(FolderStore):
    """A folder in which another writer always comes first."""

    def put_if_match(self, key: str, data: bytes, tag: str) -> bool:
        return False


class FakeBackend:
    """A backend without jobs: it has the states that a test gives it, and notes what it is told."""

    name = "fake"

    def __init__(self, journal: list[str], namespace: str = "local") -> None:
        self.journal = journal
        self.namespace = namespace
        self.known: dict[str, JobState] = {}
        """The state of each task now."""
        self.ahead: list[JobState] = []
        """States that follow, as somebody waits; where they end, the wait runs out of time."""
        self.at_end: Callable[[], None] = lambda: None
        """Called when a task has reached the last state ahead."""
        self.first = PENDING
        """State of a task right after its start."""
        self.lines = ["one", "two"]
        self.has_logs = True
        self.stuck: list[str] = []
        """Tasks that cannot be stopped."""
        self.specs: dict[str, str] = {}
        """Digest of the spec that a task runs with."""

    def dry_run(self, call: StepCall, placement: Placement) -> list[dict[str, Any]]:
        raise NotImplementedError

    def submit(self, run: Run, task: Task, placement: Placement, *, data: str) -> JobState:
        self.journal.append(f"submit {task.name}")
        digest = task.spec.digest()
        if self.state(run, task.name).phase not in ACTIVE:
            self.known[task.name], self.specs[task.name] = self.first, digest
        elif self.specs.get(task.name, digest) != digest:
            raise ConflictError(f"{task.name} runs with another spec")
        return self.known[task.name]

    def state(self, run: Run, task_name: str) -> JobState:
        return self.known.get(task_name, ABSENT)

    def snapshot(self, runs: Sequence[Run]) -> Mapping[str, Mapping[str, JobState]]:
        return {run.name: dict(self.known) for run in runs}

    def wait(self, run: Run, task_name: str, timeout: float | None = None) -> JobState:
        return list(self.changes(run, task_name, timeout))[-1]

    def changes(self, run: Run, task_name: str, timeout: float | None = None) -> Iterator[JobState]:
        if timeout is not None:
            self.journal.append(f"wait {timeout:g} s")
        yield self.state(run, task_name)
        while self.ahead and self.state(run, task_name).phase not in (*ENDED, Phase.ABSENT):
            self.known[task_name] = self.ahead.pop(0)
            if not self.ahead:
                self.at_end()
            yield self.known[task_name]

    def logs(
        self, run: Run, task_name: str, *, rank: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        self.journal.append(f"{'follow' if follow else 'logs'} {task_name}")
        if not self.has_logs:
            raise NotFoundError(f"no logs of {task_name} in run {run.name}")
        yield from self.lines

    def cancel(self, run: Run, task_name: str) -> bool:
        self.journal.append(f"cancel {task_name}")
        if task_name in self.stuck:
            raise UnreachableError(f"no answer for {task_name}")
        was_active = self.state(run, task_name).phase in ACTIVE
        if was_active:
            self.known[task_name] = JobState(Phase.CANCELLED)
        return was_active

    def spec_of(self, run: Run, task_name: str) -> Mapping[str, Any] | None:
        raise NotImplementedError

    def events(self, run: Run) -> list[RunEvent]:
        return []

    def tasks(self, run: Run) -> list[str]:
        return sorted(self.known)

    @contextmanager
    def exclusive(self, run: Run) -> Iterator[Callable[[], None]]:
        self.journal.append("hold")
        yield lambda: None
        self.journal.append("release")

    def forget(self, run: Run) -> None:
        if any(state.phase in ACTIVE for state in self.known.values()):
            raise ConflictError(f"a task of run {run.name} is running")
        self.journal.append("forget")
        self.known.clear()


@pytest.fixture
def journal() -> list[str]:
    """What the backend was told and what was deleted, in order."""
    return []


@pytest.fixture
def backend(journal: list[str]) -> FakeBackend:
    return FakeBackend(journal)


@pytest.fixture
def run(tmp_path: Path, journal: list[str]) -> Run:
    """A run that nobody has claimed."""
    return Run(RecordingStore(tmp_path / "runs", journal), "main")


@pytest.fixture
def data(tmp_path: Path) -> Store:
    """The folder of a dataset that has one version, without pictures."""
    data = FolderStore(tmp_path / "data")
    folder = version_folder(data, VERSION)
    write_marker(folder, step="prepare", spec_hash="0", inputs={}, outputs={})
    return data


@pytest.fixture
def submitted(backend: FakeBackend, run: Run, data: Store) -> Submitted:
    """A stage 1 that waits for its start."""
    return submit(backend, run, data)


@pytest.fixture
def claimed(run: Run) -> Run:
    """A run of the backend's namespace, of which nothing was started."""
    run.claim(data="/data")
    return run


def submit(backend: Backend, run: Run, data: Store, spec: TrainSpec = SPEC) -> Submitted:
    return verbs.submit(
        backend, run, data, Step.STAGE1, spec, Placement(pending_timeout=9), tell=pytest.fail
    )


def finish(run: Run, data: Store) -> None:
    task = make_task(run, data, Step.STAGE1, SPEC)
    write_marker(
        task.folder,
        step=task.step,
        spec_hash=task.spec.digest(),
        inputs=task.input_digests(),
        outputs={},
    )


def keys(run: Run) -> list[str]:
    return [entry.key for entry in run.folder.list()]


# submit


def test_a_task_that_is_done_is_not_started_and_the_summary_says_so(
    backend: FakeBackend, run: Run, data: Store
) -> None:
    finish(run, data)

    found = submit(backend, run, data)

    assert (found.outcome, found.state.phase) == (Started.DONE, Phase.SUCCEEDED)
    assert run.read().steps == {"stage1": "done"}
    assert verbs.wait(backend, found) == found.state
    assert backend.journal == []


def test_a_task_that_runs_with_the_same_spec_is_joined(
    backend: FakeBackend, submitted: Submitted, data: Store
) -> None:
    backend.known["stage1"] = RUNNING

    found = submit(backend, submitted.run, data)

    assert (submitted.outcome, found.outcome) == (Started.STARTED, Started.RUNNING)
    assert found.state == RUNNING
    assert submitted.run.read().steps == {"stage1": "pending"}  # its launcher says more


def test_a_task_that_runs_with_another_spec_is_refused_and_left_alone(
    backend: FakeBackend, submitted: Submitted, data: Store
) -> None:
    other = SPEC.model_copy(update={"run": SPEC.run.model_copy(update={"seed": 7})})
    backend.known["stage1"] = RUNNING

    with pytest.raises(ConflictError, match="stage1 runs with another spec"):
        submit(backend, submitted.run, data, other)

    assert backend.known == {"stage1": RUNNING}
    assert submitted.run.read().steps == {"stage1": "pending"}


def test_a_submit_claims_the_run_and_notes_that_the_task_is_pending(
    backend: FakeBackend, run: Run, data: Store
) -> None:
    assert verbs.held_claim(run) is None

    found = submit(backend, run, data)

    claim = run.read()
    assert (found.outcome, found.state) == (Started.STARTED, PENDING)
    assert (claim.namespace, claim.data, claim.steps) == ("local", data.url, {"stage1": "pending"})
    assert verbs.held_claim(run) == claim
    assert backend.journal == ["submit stage1"]


def test_of_a_task_that_starts_at_once_its_launcher_writes_the_summary(
    backend: FakeBackend, run: Run, data: Store
) -> None:
    backend.first = RUNNING

    assert submit(backend, run, data).state == RUNNING

    assert run.read().steps == {}


def test_a_run_of_another_user_is_refused_before_anything_starts(
    backend: FakeBackend, run: Run, data: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "bob")
    claim = run.claim(data=data.url, owner="ann")

    with pytest.raises(ConflictError, match="run main belongs to ann in local"):
        submit(backend, run, data)

    assert run.read() == claim
    assert backend.journal == []


def test_a_run_moves_to_another_namespace_only_while_nothing_is_at_work(
    submitted: Submitted, data: Store
) -> None:
    run, team = submitted.run, FakeBackend([], namespace="team")

    with pytest.raises(ConflictError, match=r"at work in local \(stage1\), not in team"):
        submit(team, run, data)

    assert (run.read().namespace, team.journal) == ("local", [])
    run.summarise(steps={"stage1": "cancelled"})
    submit(team, run, data)
    assert (run.read().namespace, team.journal) == ("team", ["submit stage1"])


def test_an_input_that_is_not_finished_is_refused_before_anything_starts(
    backend: FakeBackend, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(ConflictError, match="stage1 of run main needs dataset"):
        submit(backend, run, FolderStore(tmp_path / "empty"))

    assert backend.journal == []


def test_a_summary_that_cannot_be_written_is_told_and_changes_nothing_else(
    backend: FakeBackend, data: Store, tmp_path: Path
) -> None:
    run = Run(ContendedStore(tmp_path / "contended"), "main")
    told: list[str] = []

    found = verbs.submit(backend, run, data, Step.STAGE1, SPEC, Placement(), tell=told.append)

    assert found.outcome == Started.STARTED
    (line,) = told
    assert line.startswith("warning: the listing of run main is out of date: ")


# wait


def test_waiting_for_a_task_that_ends_well_gives_its_end(
    backend: FakeBackend, submitted: Submitted, data: Store
) -> None:
    backend.ahead = [RUNNING, SUCCEEDED]
    finish(submitted.run, data)

    assert verbs.wait(backend, submitted) == SUCCEEDED

    assert submitted.run.read().steps == {"stage1": "done"}
    assert backend.journal == ["submit stage1", "wait 9 s"]


@pytest.mark.parametrize(
    ("end", "error", "message", "summary"),
    [
        (
            JobState(Phase.FAILED, 3, 65, "bad picture"),
            StepFailed,
            "stage1 of run main failed with code 65 in attempt 3: bad picture",
            "failed",
        ),
        (
            JobState(Phase.CANCELLED),
            Cancelled,
            "stage1 of run main was cancelled",
            "cancelled",
        ),
        (
            ABSENT,
            Cancelled,
            "stage1 of run main is gone: its job was deleted",
            "cancelled",
        ),
    ],
    ids=["failed", "cancelled", "absent"],
)
@pytest.mark.parametrize("before", [[], [RUNNING]], ids=["pending", "running"])
def test_a_task_that_does_not_end_well_is_an_error_and_the_summary_says_how_it_ended(
    backend: FakeBackend,
    submitted: Submitted,
    before: list[JobState],
    end: JobState,
    error: type[HbsegError],
    message: str,
    summary: str,
) -> None:
    backend.ahead = [*before, end]

    with pytest.raises(error) as raised:
        verbs.wait(backend, submitted)

    assert raised.value.message == message
    assert raised.value.hint == "see: hbseg logs main --step stage1"
    assert submitted.run.read().steps == {"stage1": summary}


def test_a_task_of_ours_that_does_not_start_in_time_is_cancelled(
    backend: FakeBackend, submitted: Submitted
) -> None:
    backend.ahead = [replace(PENDING, reason="no GPU")]

    with pytest.raises(NotFinished, match="did not start within 9 s and was cancelled: no GPU"):
        verbs.wait(backend, submitted)

    assert backend.journal == ["submit stage1", "wait 9 s", "cancel stage1"]
    assert submitted.run.read().steps == {"stage1": "cancelled"}


def test_a_task_of_others_that_does_not_start_in_time_is_left_alone(
    backend: FakeBackend, submitted: Submitted, data: Store
) -> None:
    backend.ahead = [replace(PENDING, reason="no GPU")]
    submitted.run.summarise(steps={"stage1": "running"})  # as another wrote it
    joined = submit(backend, submitted.run, data)

    with pytest.raises(NotFinished, match="did not start within 9 s and waits on: no GPU"):
        verbs.wait(backend, joined)

    assert "cancel stage1" not in backend.journal
    assert backend.known["stage1"].phase == Phase.PENDING
    assert submitted.run.read().steps == {"stage1": "running"}


def test_the_lines_of_the_logs_are_given_in_order_before_the_end(
    backend: FakeBackend, submitted: Submitted, data: Store
) -> None:
    backend.ahead = [RUNNING, SUCCEEDED]
    finish(submitted.run, data)
    lines: list[tuple[str, Phase]] = []

    verbs.wait(
        backend, submitted, line=lambda text: lines.append((text, backend.known["stage1"].phase))
    )

    assert lines == [("one", Phase.RUNNING), ("two", Phase.RUNNING)]
    assert backend.journal[-1] == "follow stage1"


def test_each_reason_for_waiting_is_told_once(
    backend: FakeBackend, submitted: Submitted, data: Store
) -> None:
    finish(submitted.run, data)
    quota, gpu = (replace(PENDING, reason=reason) for reason in ("quota", "no GPU"))
    backend.ahead = [quota, quota, gpu, RUNNING, SUCCEEDED]
    told: list[str] = []

    verbs.wait(backend, submitted, tell=told.append)

    assert told == ["waits: quota", "waits: no GPU"]


def test_what_kept_a_done_task_alive_is_told(
    backend: FakeBackend, submitted: Submitted, data: Store
) -> None:
    backend.ahead = [RUNNING, KEPT]
    finish(submitted.run, data)
    told: list[str] = []

    assert verbs.wait(backend, submitted, tell=told.append) == KEPT

    assert told == ["warning: stage1: sidecar x keeps it"]


def test_a_task_that_ended_well_without_a_marker_is_not_done(
    backend: FakeBackend, submitted: Submitted
) -> None:
    backend.ahead = [RUNNING, SUCCEEDED]

    with pytest.raises(StepFailed, match="ended, but its marker is missing"):
        verbs.wait(backend, submitted)

    assert submitted.run.read().steps == {"stage1": "pending"}


def test_a_task_that_is_cancelled_before_it_has_logs_is_cancelled_for_those_who_follow(
    backend: FakeBackend, submitted: Submitted
) -> None:
    backend.ahead = [JobState(Phase.CANCELLED)]
    backend.has_logs = False

    with pytest.raises(Cancelled):
        verbs.wait(backend, submitted, line=pytest.fail)

    assert submitted.run.read().steps == {"stage1": "cancelled"}


# pipeline


def test_a_pipeline_tells_what_kept_a_done_task_alive(
    backend: FakeBackend, claimed: Run, data: Store
) -> None:
    task = make_task(claimed, data, Step.STAGE1, SPEC)
    told: list[str] = []
    pipeline = Pipeline(backend, claimed, data, ChainSpecs({}), tell=told.append)
    backend.ahead = [RUNNING, KEPT]
    backend.at_end = lambda: finish(claimed, data)

    pipeline.do(task)

    assert told == ["warning: stage1: sidecar x keeps it"]


# cancel


def test_one_task_that_cannot_be_stopped_does_not_keep_the_others_from_it(
    backend: FakeBackend, claimed: Run
) -> None:
    names = ["stage1", "engine-0a", "valid", "infer"]
    backend.known = dict.fromkeys(names, RUNNING) | {"valid": SUCCEEDED}
    backend.stuck = ["stage1"]
    claimed.summarise(steps={"stage1": "running", "valid": "done"})
    told: list[str] = []

    with pytest.raises(UnreachableError, match="no answer for stage1"):
        verbs.cancel(backend, claimed, names, tell=told.append)

    assert backend.journal == [f"cancel {name}" for name in names]
    assert claimed.read().steps == {
        "stage1": "running",
        "valid": "done",
        "engine/0a": "cancelled",
        "infer": "cancelled",
    }
    assert told == [
        "stage1 not cancelled: no answer for stage1",
        "engine-0a cancelled",
        "infer cancelled",
    ]


def test_other_active_tasks_stay_as_they_are(backend: FakeBackend, claimed: Run) -> None:
    backend.known = {"stage1": RUNNING, "infer": RUNNING}
    claimed.summarise(steps={"stage1": "running", "infer": "running"})

    verbs.cancel(backend, claimed, ["infer"])

    assert claimed.read().steps == {"stage1": "running", "infer": "cancelled"}


def test_what_a_lost_execution_left_in_the_summary_is_cancelled(
    backend: FakeBackend, claimed: Run
) -> None:
    claimed.summarise(steps={"stage1": "done", "stage2": "running", "engine/0a": "pending"})

    verbs.cancel(backend, claimed, [], tell=pytest.fail)

    assert claimed.read().steps == {
        "stage1": "done",
        "stage2": "cancelled",
        "engine/0a": "cancelled",
    }
    assert backend.journal == []


def test_what_another_namespace_is_at_work_on_stays_in_the_summary(
    backend: FakeBackend, run: Run
) -> None:
    run.claim(data="/data", namespace="team")
    run.summarise(steps={"stage2": "running"})
    backend.known = {"stage1": RUNNING}

    verbs.cancel(backend, run, ["stage1"])

    assert run.read().steps == {"stage1": "cancelled", "stage2": "running"}


def test_a_cancel_of_a_task_that_is_kept_alive_is_no_cancel(
    backend: FakeBackend, claimed: Run
) -> None:
    backend.known = {"stage1": KEPT, "infer": SUCCEEDED}
    claimed.summarise(steps={"stage1": "done", "infer": "running"})
    told: list[str] = []

    verbs.cancel(backend, claimed, ["stage1", "infer"], tell=told.append)

    assert told == ["stage1 had ended already; its job is deleted"]
    assert claimed.read().steps == {"stage1": "done", "infer": "cancelled"}


# active tasks


def test_only_tasks_that_are_pending_running_or_kept_alive_are_active(
    backend: FakeBackend, claimed: Run
) -> None:
    assert verbs.active_tasks(backend, claimed) == []
    failed = JobState(Phase.FAILED, 1, 70)
    backend.known = {"stage1": SUCCEEDED, "stage2": RUNNING, "infer": PENDING, "valid": failed}

    assert verbs.active_tasks(backend, claimed) == ["stage2", "infer"]
    backend.known = {"stage1": KEPT}
    assert verbs.active_tasks(backend, claimed) == ["stage1"]


@pytest.mark.parametrize(
    ("owns", "asks", "flag"),
    [("team", "local", "-n team"), ("local", "team", "--backend local")],
)
def test_a_run_of_another_namespace_without_active_tasks_is_refused_with_the_flag_to_give(
    run: Run, owns: str, asks: str, flag: str
) -> None:
    run.claim(data="/data", namespace=owns)
    backend = FakeBackend([], namespace=asks)

    with pytest.raises(ConflictError) as error:
        verbs.active_tasks(backend, run)

    assert error.value.message == f"run main belongs to namespace {owns}; you are using {asks}"
    assert error.value.hint == f"give {flag}"
    backend.known = {"stage1": RUNNING}
    assert verbs.active_tasks(backend, run) == ["stage1"]  # so that it can be stopped


# delete


def test_what_a_deletion_would_remove_is_counted_and_stays(
    backend: FakeBackend, claimed: Run
) -> None:
    claimed.folder.put("stage1/weights", bytes(1000))
    claimed.folder.put("logs/stage1/1/0.log", bytes(24))

    found = verbs.deletable(backend, claimed)

    claim = claimed.read()
    assert (found.claim, found.objects) == (claim, 3)
    assert found.bytes == 1024 + len(claimed.folder.get("run.json"))
    assert keys(claimed) == ["logs/stage1/1/0.log", "run.json", "stage1/weights"]
    assert backend.journal == []


@pytest.mark.parametrize("verb", [verbs.deletable, verbs.delete])
def test_a_run_of_another_namespace_is_not_deleted(
    backend: FakeBackend, run: Run, verb: Callable[[Backend, Run], object]
) -> None:
    run.claim(data="/data", namespace="team")

    with pytest.raises(ConflictError, match=r"main belongs to namespace team; .*; give -n team"):
        verb(backend, run)

    assert keys(run) == ["run.json"]
    assert backend.journal == []


@pytest.mark.parametrize("verb", [verbs.deletable, verbs.delete])
@pytest.mark.parametrize("state", ["pending", "running"])
def test_a_run_is_not_deleted_while_its_job_may_be_in_another_cluster(
    backend: FakeBackend, claimed: Run, verb: Callable[[Backend, Run], object], state: str
) -> None:
    backend.known = {"stage1": SUCCEEDED}
    claimed.summarise(steps={"stage1": "done", "engine/0a": state})

    with pytest.raises(ConflictError) as error:
        verb(backend, claimed)

    assert error.value.message == (
        f"engine/0a of run main is recorded as {state}, but local has no such job"
    )
    assert error.value.hint == "give the right --context; if it was lost, first: hbseg cancel main"
    assert keys(claimed) == ["run.json"]
    assert backend.journal == []
    backend.known["engine-0a"] = SUCCEEDED
    verb(backend, claimed)


@pytest.mark.parametrize("verb", [verbs.deletable, verbs.delete])
def test_a_run_that_is_not_there_is_named(
    backend: FakeBackend, run: Run, verb: Callable[[Backend, Run], object]
) -> None:
    with pytest.raises(NotFoundError, match="no run main in"):
        verb(backend, run)

    assert backend.journal == []


def test_nothing_is_deleted_while_a_task_runs(backend: FakeBackend, claimed: Run) -> None:
    backend.known = {"stage1": RUNNING}

    with pytest.raises(ConflictError, match="a task of run main is running"):
        verbs.delete(backend, claimed)

    assert keys(claimed) == ["run.json"]


def test_a_run_is_forgotten_then_loses_its_markers_first_and_its_claim_last(
    backend: FakeBackend, claimed: Run
) -> None:
    for key in ("stage1/_SUCCESS", "stage1/weights", "engine/0a/_SUCCESS", "a", "z"):
        claimed.folder.put(key, b"x")

    verbs.delete(backend, claimed)

    assert backend.journal == [
        "hold",
        "forget",
        "delete engine/0a/_SUCCESS",
        "delete stage1/_SUCCESS",
        "delete a",
        "delete stage1/weights",
        "delete z",
        "delete run.json",
        "release",
    ]
    assert keys(claimed) == []
