"""`status`, `events`, `diff` and `cancel`, without running a step."""

from pathlib import Path

import pytest

from hbseg.config.specs import TrainSpec
from hbseg.control.specs import chain_specs
from hbseg.runs.attempts import AttemptResult, claim_attempt, record_result
from hbseg.runs.chain import make_task
from hbseg.runs.progress import ProgressReport, progress_key
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.markers import write_marker
from hbseg.storage.opening import open_store
from tests.unit.cli.conftest import Cli

VERSION = "0123456789abcdef"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(open_store(tmp_path / "runs"), "first")
    run.claim(data=str(tmp_path / "data"))
    return run


def test_status_as_json_has_the_progress(
    cli: Cli, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hbseg.local.backend import LocalBackend
    from hbseg.runs.backend import JobState, Phase

    monkeypatch.setattr(LocalBackend, "tasks", lambda *_: ["stage1"])
    monkeypatch.setattr(LocalBackend, "state", lambda *_: JobState(Phase.RUNNING, 1))
    report = ProgressReport(
        done=1, total=4, unit="steps", rate=0.5, beat="2999-01-01T00:00:00+00:00", rank=0,
        stall_timeout=900,
    )  # fmt: skip
    run.folder.put(progress_key(Step.STAGE1, 1), report.to_json())

    content = cli("status", "first", "-o", "json").json()

    assert (content["kind"], content["namespace"]) == ("RunStatus", "local")
    (task,) = content["tasks"]
    assert task["reason"] == "step 1 of 4, 0.5 steps/s, about 6 s left"
    assert task["progress"] == {
        "done": 1,
        "total": 4,
        "unit": "steps",
        "epoch": None,
        "epochs": None,
        "rate": 0.5,
        "beat": "2999-01-01T00:00:00+00:00",
        "rank": 0,
        "stall_timeout": 900.0,
        "seconds_left": 6,
    }
    assert "PROGRESS" not in cli("status", "first").out


def test_events_tell_attempts_and_their_ends_in_order(cli: Cli, run: Run) -> None:
    number = claim_attempt(run, Step.STAGE1, "stage1").number
    result = AttemptResult(
        code=65, reason="bad", attempt=number, finished="2999-01-01T00:00:00+00:00"
    )
    record_result(run, Step.STAGE1, result)

    content = cli("events", "first", "-o", "json").json()

    assert content["kind"] == "RunEvents"
    assert [item["reason"] for item in content["items"]] == ["Claimed", "Started", "Failed"]
    assert content["items"][-1] == {
        "time": "2999-01-01T00:00:00Z",
        "about": "stage1",
        "type": "Warning",
        "reason": "Failed",
        "count": 1,
        "message": "attempt 1 failed with code 65: bad",
    }
    assert cli("events", "nobody").code == 3


def test_diff_tells_what_a_submit_would_change(
    cli: Cli, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_store(tmp_path / "data")
    write_marker(
        data.folder(f"versions/{VERSION}"), step="prepare", spec_hash="x", inputs={}, outputs={}
    )
    pins = [f"{stage}.dataset.version={VERSION}" for stage in ("stage1", "stage2")]
    flags = [word for pin in pins for word in ("--set", pin)]
    assert [
        step["change"] for step in cli("diff", "first", *flags, "-o", "json").json()["steps"]
    ] == ["new"] * 7
    spec = chain_specs(settings=pins).get(Step.STAGE1, TrainSpec)
    task = make_task(run, data, Step.STAGE1, spec)
    task.folder.put("spec.yaml", spec.to_yaml().encode())
    assert cli("diff", "first", *flags, "-o", "json").json()["steps"][0]["change"] == "unfinished"
    write_marker(
        task.folder,
        step="stage1",
        spec_hash=spec.digest(),
        inputs=task.input_digests(),
        outputs={},
    )

    unchanged = cli("diff", "first", *flags, "-o", "json").json()
    other = cli("diff", "first", *flags, "--set", "stage1.run.epochs=3", "-o", "json").json()

    assert (unchanged["kind"], unchanged["name"]) == ("RunDiff", "first")
    assert unchanged["steps"][0]["change"] == "unchanged"
    assert other["steps"][0] == {
        "step": "stage1",
        "prefix": "stage1",
        "change": "changed",
        "details": [f"run.epochs: {spec.run.epochs} -> 3"],
    }
    assert cli("diff", "first", *flags, "-o", "name").out.splitlines()[0] == "stage2"


def test_diff_without_a_dataset_says_so(cli: Cli) -> None:
    outcome = cli("diff", "first")

    assert outcome.code == 3
    assert outcome.err.count("\n") == 1


def test_cancel_corrects_a_summary_that_a_lost_execution_left(cli: Cli, run: Run) -> None:
    run.summarise(steps={"stage1": "running", "stage2": "done"})

    assert cli("cancel", "first", "-y").code == 0

    assert run.read().steps == {"stage1": "cancelled", "stage2": "done"}


@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_a_run_is_not_stopped_or_deleted_from_elsewhere(
    cli: Cli, tmp_path: Path, verb: str
) -> None:
    run = Run(open_store(tmp_path / "runs"), "first")
    run.claim(data=str(tmp_path / "data"), namespace="hands")
    run.summarise(steps={"stage1": "running"})

    outcome = cli(verb, "first", "-y")

    assert outcome.code == 5
    way = "you are using local; give --backend kubernetes -n hands"
    assert f"run first belongs to namespace hands; {way}" in outcome.err
    assert run.read().steps == {"stage1": "running"}


@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_another_users_run_is_stopped_or_deleted_by_naming_the_owner(
    cli: Cli, run: Run, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    owner = run.read().owner
    monkeypatch.setenv("LOGNAME", "bob")

    outcome = cli(verb, "first", "-y")

    assert outcome.code == 5
    assert f"run first belongs to {owner}, not to bob" in outcome.err
    assert f"give --owner {owner}" in outcome.err
    assert run.folder.exists("run.json")
    assert cli(verb, "first", "-y", "--owner", owner).code == 0


def test_a_run_of_a_newer_version_is_unknown_and_hides_no_other(
    cli: Cli, run: Run, tmp_path: Path
) -> None:
    newer = tmp_path / "runs" / "later" / "run.json"
    newer.parent.mkdir()
    newer.write_text('{"apiVersion": "hbseg/v2", "kind": "Run"}')
    sentence = f"{newer} was written as hbseg/v2 by a newer hbseg, here is hbseg/v1"

    listed = cli("list")
    first, later = cli("list", "-o", "json").json()["items"]

    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == ["first", "later"]
    assert "unknown" in listed.out.splitlines()[2]
    assert f"warning: run later is not known: {sentence}" in listed.err
    assert (first["problem"], later["owner"]) == (None, None)
    assert sentence in later["problem"]
    for words in (("status",), ("cancel", "-y"), ("delete", "-y"), ("logs",), ("events",)):
        refused = cli(*words, "later")
        assert (refused.code, refused.out) == (5, "")
        assert sentence in refused.err
        assert refused.err.count("\n") == 1
    assert cli("status", "first").code == 0
    assert "ok" in cli("doctor").out
    assert cli("delete", "first", "-y").code == 0


def test_a_step_of_a_newer_version_is_unknown_and_so_is_what_was_made_of_it(
    cli: Cli, run: Run
) -> None:
    run.summarise(steps={"stage1": "done", "stage2": "done", "prepare": "failed"})
    made_of = {"checkpoint": "0" * 64}
    write_marker(
        run.folder.folder("stage2"), step="stage2", spec_hash="0", inputs=made_of, outputs={}
    )
    run.folder.put("stage1/_SUCCESS", b'{"apiVersion": "hbseg/v2", "kind": "Marker"}')

    rows = cli("status", "first", "-o", "json").json()["tasks"]

    assert [(row["prefix"], row["state"]) for row in rows] == [
        ("prepare", "waiting"),
        ("stage1", "unknown"),
        ("stage2", "unknown"),
    ]
    for row in rows[1:]:
        assert "stage1/_SUCCESS was written as hbseg/v2 by a newer hbseg" in row["reason"]


def test_a_run_of_which_something_may_run_in_another_cluster_is_not_deleted(
    cli: Cli, run: Run
) -> None:
    run.summarise(steps={"stage1": "running"})

    outcome = cli("delete", "first", "-y")

    assert outcome.code == 5
    assert "stage1 of run first is recorded as running, but local has no such job" in outcome.err
    assert cli("cancel", "first", "-y").code == 0
    assert cli("delete", "first", "-y").code == 0


def test_what_is_written_while_a_run_is_deleted_goes_with_it(
    cli: Cli, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hbseg.local.backend import LocalBackend

    late = lambda _, of: of.folder.put("logs/stage1/1/0.log", b"the last line")  # noqa: E731
    monkeypatch.setattr(LocalBackend, "forget", late)

    assert cli("delete", "first", "-y").code == 0
    assert list(run.folder.list()) == []


def test_steps_of_a_later_version_are_passed_over(cli: Cli, run: Run) -> None:
    run.summarise(steps={"distill": "done", "stage1": "failed"})

    rows = cli("status", "first", "-o", "json").json()["tasks"]

    assert [row["prefix"] for row in rows] == ["stage1"]
    assert cli("logs", "first").code == 3


def test_text_from_storage_does_not_steer_the_terminal(cli: Cli, tmp_path: Path) -> None:
    run = Run(open_store(tmp_path / "runs"), "first")
    run.claim(data="d", owner="eve\x1b[2J\u202e손\nx", namespace="a\x9b\tb")

    outcome = cli("list")

    assert "eve\\x1b[2J\\u202e손 x" in outcome.out
    assert "a\\x9b\tb" in outcome.out
    refused = cli("submit-train", "--stage", "1", "--run", "first", "--data", "d")
    assert "\x1b" not in refused.err


def test_logs_of_one_task_do_not_hide_behind_another_that_has_none(cli: Cli, run: Run) -> None:
    run.summarise(steps={"infer": "pending", "valid": "running"})
    claim_attempt(run, Step.INFER, "valid")
    run.folder.put("logs/infer/1/0.log", b"2026-01-01T00:00:00.000Z here\n")

    outcome = cli("logs", "first", "--step", "infer")

    assert (outcome.code, outcome.out) == (0, "2026-01-01T00:00:00.000Z here\n")
    assert "no logs of infer" in outcome.err


def test_followed_logs_begin_at_their_tail(cli: Cli, run: Run) -> None:
    run.summarise(steps={"stage1": "done"})
    claim_attempt(run, Step.STAGE1, "stage1")
    lines = [f"2026-01-01T00:00:0{second}.000Z {second}\n" for second in range(4)]
    run.folder.put("logs/stage1/1/0.log", "".join(lines).encode())

    assert cli("logs", "first", "-f", "--tail", "2").out == "".join(lines[2:])
    assert cli("logs", "first", "-f", "--tail", "9").out == "".join(lines)
    assert cli("logs", "first", "-f", "--tail", "0").out == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("logs", "first", "--since", "999999d"), "--since 999999d: expected"),
        (("submit-train", "--stage", "1", "--pending-timeout", "0"), "--pending-timeout 0: input"),
        (("submit-train", "--stage", "1", "--pending-timeout", "1e12"), "--pending-timeout 1e+12"),
        (("submit-train", "--stage", "1", "--stall-timeout", "nan"), "--stall-timeout nan: input"),
        (("doctor", "--timeout", "inf"), "--timeout inf: expected 1 to 86400 seconds"),
    ],
)
def test_times_that_no_clock_has_are_refused(
    cli: Cli, run: Run, arguments: tuple[str, ...], told: str
) -> None:
    outcome = cli(*arguments)

    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert told in outcome.err
