"""The local backend and its launcher, with fake steps, real processes and a real torchrun."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from ipaddress import ip_address

import psutil
import pytest

from hbseg.config.placement import Placement
from hbseg.config.specs import CompileSpec
from hbseg.control.pipeline import start_task
from hbseg.control.verbs import delete
from hbseg.errors import ConflictError, DeniedError, NotFoundError, UsageError, VersionError
from hbseg.local.backend import LocalBackend, default_state
from hbseg.runs.attempts import Attempt, AttemptResult
from hbseg.runs.backend import Phase
from hbseg.runs.run import Run
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step
from hbseg.storage.markers import read_marker, write_marker
from hbseg.storage.opening import open_store
from tests.conftest import S3Place
from tests.integration.conftest import Local, processes_of, until
from tests.integration.fakes.fake_chain import MODULES


def test_a_task_runs_leaves_its_marker_and_its_log_in_storage(local: Local) -> None:
    task = local.task()

    assert local.submit(task).phase == Phase.RUNNING
    state = local.wait(task)

    assert (state.phase, state.attempt, state.exit_code) == (Phase.SUCCEEDED, 1, 0)
    assert task.is_done()
    assert local.backend.tasks(local.run) == ["engine-abc"]
    log = local.run.folder.get("logs/compile/1/0.log").decode()
    assert "rank 0 acts: ok" in log
    assert "to stderr 손" in log
    attempt = Attempt.from_text(local.run.folder.get("attempts/compile/1.json"), source="x")
    assert (attempt.task, attempt.number) == ("engine-abc", 1)


def test_a_snapshot_has_the_tasks_that_this_machine_knows_of_each_run(local: Local) -> None:
    task, other = local.task(), Run(open_store(local.folder / "runs"), "other")
    local.submit(task)

    state = local.wait(task)

    known = {local.run.name: {task.name: state}, "other": {}}
    assert local.backend.snapshot([local.run, other]) == known


def test_a_dry_run_on_the_server_needs_a_cluster(local: Local) -> None:
    call = StepCall.of(local.run, local.task(), data=local.data.url)

    with pytest.raises(UsageError, match="--dry-run=server needs a cluster; use --dry-run"):
        local.backend.dry_run(call, Placement())


def test_two_ranks_meet_by_a_real_torchrun(local: Local) -> None:
    local.fake(stage1=["meet"])
    task = local.task(Step.STAGE1)

    local.submit(task, processes=2)

    assert local.wait(task).phase == Phase.SUCCEEDED
    for rank in (0, 1):
        log = local.run.folder.get(f"logs/stage1/1/{rank}.log").decode()
        assert "met 2 ranks" in log
        assert f"rank {rank} acts" in log
        assert f"rank {1 - rank} acts" not in log
    lines = list(local.backend.logs(local.run, "stage1"))
    assert any(line.partition(" ")[2] == "[1] met 2 ranks" for line in lines)
    assert [line[:24] for line in lines] == sorted(line[:24] for line in lines)
    only = list(local.backend.logs(local.run, "stage1", rank=1))
    assert only
    assert not any("rank 0 acts" in line for line in only)
    marker = json.loads(task.folder.get("model"))
    assert int(marker["threads"]) >= 1
    assert not (local.job_folder(task) / "torchrun").exists()


def test_ranks_that_have_met_can_be_reached_from_this_machine_alone(local: Local) -> None:
    local.fake(stage1=["turns"])
    task = local.task(Step.STAGE1)
    local.submit(task, processes=2)
    local.until_log(task, "met 2 ranks", times=2)

    processes = psutil.Process(local.launcher(task)).children(recursive=True)
    sockets = [each for one in processes for each in one.net_connections(kind="inet")]

    assert sum("fake_train" in " ".join(one.cmdline()) for one in processes) >= 2
    assert sum(each.status == psutil.CONN_ESTABLISHED for each in sockets) >= 2
    reachable = {each.laddr for each in sockets if not ip_address(each.laddr.ip).is_loopback}
    assert not reachable
    local.backend.cancel(local.run, task.name)


def test_a_killed_rank_is_the_root_cause_and_is_tried_once_more(local: Local) -> None:
    local.fake(stage1=["lost 1", "lost 1", "ok"])
    task = local.task(Step.STAGE1)

    local.submit(task, processes=2, retries=5)
    state = local.wait(task)

    assert (state.phase, state.exit_code, state.attempt) == (Phase.FAILED, 137, 2)
    assert "rank 1 was killed by SIGKILL" in state.reason
    failure = AttemptResult.from_text(local.run.folder.get("failures/stage1/2.json"), source="x")
    assert (failure.code, failure.attempt) == (137, 2)
    assert local.submit(task, processes=2).phase == Phase.RUNNING
    assert local.wait(task).phase == Phase.SUCCEEDED


def test_the_earliest_record_of_the_ranks_is_the_reason(local: Local) -> None:
    local.fake(stage1=["fail 76"])
    task = local.task(Step.STAGE1)

    local.submit(task, processes=2)
    state = local.wait(task)

    assert (state.phase, state.exit_code, state.attempt) == (Phase.FAILED, 76, 1)
    assert state.reason == "planned failure 76; no next step"


def test_ranks_that_lost_a_peer_are_no_cause(local: Local) -> None:
    local.fake(stage1=["tear 65"])
    task = local.task(Step.STAGE1)

    local.submit(task, processes=2)
    state = local.wait(task)

    assert (state.phase, state.exit_code, state.attempt) == (Phase.FAILED, 65, 1)
    assert state.reason == "planned failure 65; no next step"


@pytest.mark.parametrize(
    ("acts", "retries", "phase", "code", "attempt"),
    [
        (["fail 170", "fail 170", "ok"], 2, Phase.SUCCEEDED, 0, 3),
        (["fail 170"], 1, Phase.FAILED, 170, 2),
        (["fail 65"], 5, Phase.FAILED, 65, 1),
        (["fail 78"], 5, Phase.FAILED, 78, 1),
        (["bug"], 5, Phase.FAILED, 70, 1),
        (["exit 3"], 5, Phase.FAILED, 3, 2),
        (["exit 3", "ok"], 5, Phase.SUCCEEDED, 0, 2),
        (["exit 3", "ok"], 0, Phase.FAILED, 3, 1),
        (["kill 0"], 5, Phase.FAILED, 137, 2),
    ],
)
def test_codes_say_what_is_tried_again(
    local: Local, acts: list[str], retries: int, phase: Phase, code: int, attempt: int
) -> None:
    local.fake(compile=acts)
    task = local.task()

    local.submit(task, retries=retries)
    state = local.wait(task)

    assert (state.phase, state.exit_code, state.attempt) == (phase, code, attempt)


def test_a_rank_that_stalls_is_ended_named_and_tried_again(local: Local) -> None:
    local.fake(stage1=["hang 1", "meet"])
    task = local.task(Step.STAGE1)
    placement = Placement(processes_per_node=2, stall_timeout=3)

    local.backend.submit(local.run, task, placement, data=local.data.url)
    state = local.wait(task)

    assert (state.phase, state.attempt) == (Phase.SUCCEEDED, 2)
    failure = AttemptResult.from_text(local.run.folder.get("failures/stage1/1.json"), source="x")
    assert (failure.code, failure.rank, failure.final) == (170, 1, False)
    assert failure.reason == "rank 1 stalled: no step for 3 s, last was step 3 of 400"


def test_a_submit_of_a_running_task_changes_nothing(local: Local) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    local.submit(task)
    local.until_log(task, "acts: wait")
    pid = local.launcher(task)

    assert local.submit(task).phase == Phase.RUNNING
    assert local.launcher(task) == pid
    assert LocalBackend(modules=MODULES).state(local.run, task.name).phase == Phase.RUNNING
    local.backend.cancel(local.run, task.name)


def test_the_file_of_a_job_keeps_the_names_that_other_versions_wrote(local: Local) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    local.submit(task)
    local.until_log(task, "acts: wait")
    path = local.job_folder(task) / "job.json"

    assert "tied" in json.loads(path.read_text())
    local.backend.cancel(local.run, task.name)


def test_a_job_of_a_newer_version_is_unknown_and_left_alone(local: Local) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    local.submit(task)
    local.until_log(task, "acts: wait")
    job = local.job_folder(task) / "job.json"
    ours = job.read_text()
    job.write_text(ours.replace('"hbseg/v1"', '"hbseg/v2"'))

    state = local.backend.snapshot([local.run])[local.run.name][task.name]
    assert state.phase == Phase.UNKNOWN
    assert f"{job} was written as hbseg/v2 by a newer hbseg" in state.reason
    for change in (
        lambda: local.submit(task),
        lambda: local.backend.cancel(local.run, task.name),
        lambda: local.backend.forget(local.run),
        lambda: delete(local.backend, local.run),
    ):
        with pytest.raises(VersionError):
            change()

    job.write_text(ours)
    assert local.backend.state(local.run, task.name).phase == Phase.RUNNING
    local.backend.cancel(local.run, task.name)


def test_a_submit_with_another_spec_while_the_task_runs_is_refused(local: Local) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    local.submit(task)
    local.until_log(task, "acts: wait")
    other = replace(task, spec=CompileSpec(batch_size=3))

    for submit_other in (
        lambda: local.submit(other),
        lambda: start_task(local.backend, local.run, other, Placement(), data=local.data),
    ):
        with pytest.raises(ConflictError, match="engine/abc of run first runs with another") as e:
            submit_other()
        assert e.value.hint == "see: hbseg status first, or stop it: hbseg cancel first"
    local.backend.cancel(local.run, task.name)


@pytest.mark.parametrize(
    ("act", "state", "dice"), [("ok", "done", 0.5), ("fail 65", "failed", None)]
)
def test_the_launcher_itself_keeps_the_listing_up_to_date(
    local: Local, act: str, state: str, dice: float | None
) -> None:
    local.fake(stage1=[act])
    task = local.task(Step.STAGE1)

    local.submit(task)
    local.wait(task)

    claim = local.run.read()
    assert (claim.steps, claim.dice) == ({"stage1": state}, dice)


def test_the_listing_says_what_runs_and_what_was_cancelled(local: Local) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    local.submit(task)
    local.until_log(task, "acts: wait")
    assert local.run.read().steps == {"engine/abc": "running"}

    local.backend.cancel(local.run, task.name)

    assert local.run.read().steps == {"engine/abc": "cancelled"}


def test_a_step_without_a_claim_to_note_its_state_in_is_no_failure(local: Local) -> None:
    local.run.folder.delete("run.json")
    task = local.task()
    local.submit(task)

    assert local.wait(task).phase == Phase.SUCCEEDED
    said = (local.job_folder(task) / "launcher.log").read_text()
    assert "warning: the listing of run first is out of date" in said


def test_of_many_submits_at_once_one_starts(local: Local) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    start = threading.Barrier(6)

    def submit() -> None:
        start.wait()
        local.submit(task)

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    local.until_log(task, "acts: wait")

    assert [entry.key for entry in local.run.folder.list("attempts/")] == [
        "attempts/compile/1.json",
        "attempts/compile/1/0.json",
    ]
    local.backend.cancel(local.run, task.name)


@pytest.mark.parametrize("step", [Step.COMPILE, Step.STAGE1])
def test_a_cancel_stops_all_and_is_no_failure(local: Local, step: Step) -> None:
    local.fake(**{step: ["meet wait" if step == Step.STAGE1 else "wait", "ok"]})
    task = local.task(step)
    local.submit(task, processes=2)
    local.until_log(task, "acts: wait", times=2 if step == Step.STAGE1 else 1)

    assert local.backend.cancel(local.run, task.name)

    state = local.backend.state(local.run, task.name)
    assert (state.phase, state.exit_code) == (Phase.CANCELLED, 143)
    assert not processes_of(local.folder)
    assert not local.backend.cancel(local.run, task.name)
    assert "cancelled" in local.run.folder.get(f"failures/{step}/1.json").decode()
    local.submit(task, processes=2)
    assert local.wait(task).phase == Phase.SUCCEEDED


@pytest.mark.parametrize("step", [Step.COMPILE, Step.STAGE1])
def test_a_killed_launcher_takes_all_along_and_the_next_submit_goes_on(
    local: Local, step: Step
) -> None:
    local.fake(**{step: ["wait", "ok"]})
    task = local.task(step)
    local.submit(task, processes=2)
    local.until_log(task, "acts: wait", times=2 if step == Step.STAGE1 else 1)

    os.kill(local.launcher(task), signal.SIGKILL)
    state = local.wait(task)

    assert (state.phase, state.exit_code) == (Phase.FAILED, 137)
    assert "killed" in state.reason
    until(lambda: not processes_of(local.folder), "all processes end with the launcher")
    local.submit(task, processes=2)
    assert (local.wait(task).phase, local.wait(task).attempt) == (Phase.SUCCEEDED, 2)


def test_ranks_meet_whatever_a_killed_attempt_left(local: Local) -> None:
    local.fake(stage1=["turns", "meet"])
    task = local.task(Step.STAGE1)
    files = local.job_folder(task) / "torchrun"
    local.submit(task, processes=2)
    local.until_log(task, "met 2 ranks", times=2)
    assert stat.S_IMODE(files.stat().st_mode) == 0o700

    os.kill(local.launcher(task), signal.SIGKILL)
    local.wait(task)

    assert (files / "ranks").stat().st_size
    local.submit(task, processes=2)
    assert (local.wait(task).phase, local.wait(task).attempt) == (Phase.SUCCEEDED, 2)
    assert not files.exists()


def test_a_step_that_ignores_sigterm_is_killed(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.fake(compile=["stubborn"])
    task = local.task()
    local.submit(task)
    local.until_log(task, "acts: stubborn")
    monkeypatch.setattr("hbseg.local.backend.CANCEL_SECONDS", 1.0)

    assert local.backend.cancel(local.run, task.name)

    assert local.backend.state(local.run, task.name).phase == Phase.CANCELLED
    until(lambda: not processes_of(local.folder), "the step ends")


SUBMIT_AND_DIE = """
import os, signal, sys
from hbseg.local.backend import LocalBackend
from hbseg.config.placement import Placement
from hbseg.runs.run import Run
from hbseg.config.specs import CompileSpec
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
from hbseg.storage.opening import open_store
runs, data, dies_with_parent = sys.argv[1:]
run = Run(open_store(runs), "first")
modules = {step: "tests.integration.fakes.fake_step" for step in Step}
backend = LocalBackend(dies_with_parent=dies_with_parent == "dies_with_parent", modules=modules)
task = Task(Step.COMPILE, CompileSpec(), run.folder.folder("engine/abc"), "engine/abc")
backend.submit(run, task, Placement(), data=data)
next(line for line in backend.logs(run, task.name, follow=True) if "acts: wait" in line)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("dies_with_parent", ["dies_with_parent", "detached"])
def test_only_a_tied_task_ends_with_who_submitted_it(local: Local, dies_with_parent: str) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    runs = str(local.folder / "runs")
    command = [sys.executable, "-c", SUBMIT_AND_DIE, runs, local.data.url, dies_with_parent]

    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL

    if dies_with_parent == "dies_with_parent":
        until(lambda: not processes_of(local.job_folder(task)), "the task ends with its submitter")
        assert local.backend.state(local.run, task.name).exit_code == 137
    else:
        assert local.backend.state(local.run, task.name).phase == Phase.RUNNING
        assert local.backend.cancel(local.run, task.name)


def test_following_shows_all_lines_over_attempts_till_the_end(local: Local) -> None:
    local.fake(compile=["fail 170", "ok"])
    task = local.task()
    local.submit(task)

    lines = [
        line.partition(" ")[2] for line in local.backend.logs(local.run, task.name, follow=True)
    ]

    assert [line for line in lines if "acts" in line] == [
        "rank 0 acts: fail 170",
        "rank 0 acts: ok",
    ]
    assert local.backend.state(local.run, task.name).phase == Phase.SUCCEEDED


def test_following_a_launcher_that_ended_before_its_first_attempt_shows_nothing(
    local: Local,
) -> None:
    local.run.folder.put("attempts/compile", b"")  # a file where the numbers' folder belongs
    task = local.task()
    local.submit(task)

    assert local.wait(task).phase == Phase.FAILED
    assert list(local.backend.logs(local.run, task.name, follow=True)) == []


def test_logs_come_from_storage_where_this_machine_knows_nothing(local: Local) -> None:
    task = local.task()
    local.submit(task)
    local.wait(task)
    here = list(local.backend.logs(local.run, task.name))

    elsewhere = LocalBackend(local.folder / "other", modules=MODULES)

    assert elsewhere.state(local.run, task.name).phase == Phase.ABSENT
    assert list(elsewhere.logs(local.run, task.name)) == here
    with pytest.raises(NotFoundError, match="no logs of report"):
        list(elsewhere.logs(local.run, "report"))


def test_waiting_ends_with_its_time_limit(local: Local) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    local.submit(task)

    assert local.backend.wait(local.run, task.name, 0.05).phase == Phase.RUNNING
    local.until_log(task, "acts: wait")
    local.backend.cancel(local.run, task.name)


def test_storage_that_is_down_is_a_transient_failure(
    local: Local, s3: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hbseg.runs.run import Run

    run = Run(open_store(f"{s3.url}/runs"), "first")
    run.claim(data=local.data.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    task = local.task()

    local.backend.submit(run, task, Placement(retries=0), data=local.data.url)
    state = local.backend.wait(run, task.name, 120)

    assert (state.phase, state.exit_code) == (Phase.FAILED, 170)
    assert "AWS_ENDPOINT_URL" in state.reason


def test_no_secret_gets_into_the_state(local: Local, s3: S3Place) -> None:
    task = local.task()
    local.submit(task)
    local.wait(task)
    secret = s3.server.environment["AWS_SECRET_ACCESS_KEY"]

    files = [path for path in local.folder.rglob("*") if path.is_file()]

    assert files
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_run_with_running_tasks_is_not_forgotten(local: Local) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    local.submit(task)
    with pytest.raises(ConflictError, match="hbseg cancel first"):
        local.backend.forget(local.run)
    local.backend.cancel(local.run, task.name)

    local.backend.forget(local.run)

    assert local.backend.tasks(local.run) == []
    assert not local.backend.folder(local.run).exists()


def test_more_than_one_node_is_refused(local: Local) -> None:
    with pytest.raises(UsageError, match="use -j 1x8"):
        local.backend.submit(
            local.run, local.task(), Placement(nodes=2, processes_per_node=4), data="d"
        )


def test_a_refused_submit_leaves_the_old_marker(local: Local) -> None:
    task = local.task()
    write_marker(task.folder, step="compile", spec_hash="old", inputs={}, outputs={})
    (local.folder / "file").write_text("")

    with pytest.raises(UsageError):
        start_task(local.backend, local.run, task, Placement(nodes=2), data=local.data)
    elsewhere = LocalBackend(local.folder / "file")
    with pytest.raises(DeniedError):
        start_task(elsewhere, local.run, task, Placement(), data=local.data)

    assert read_marker(task.folder).spec_hash == "old"


def test_a_state_folder_that_cannot_be_made_is_said_so(local: Local) -> None:
    (local.folder / "file").write_text("")

    with pytest.raises(DeniedError, match="HBSEG_STATE"):
        LocalBackend(local.folder / "file").submit(local.run, local.task(), Placement(), data="d")


def test_the_state_folder_follows_the_environment(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_state() == local.folder / "state 손"
    monkeypatch.delenv("HBSEG_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(local.folder / "xdg"))
    assert default_state() == local.folder / "xdg" / "hbseg"
    (local.folder / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(local.folder / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(local.folder))
    assert default_state() == local.folder / f"hbseg-{os.getuid()}"


def test_the_marker_carries_the_inputs_digests(local: Local) -> None:
    task = local.task()
    local.submit(task)
    local.wait(task)

    assert read_marker(task.folder).spec_hash == task.spec.digest()
