"""Cancel, delete, a second submit, and Ctrl-C: what stops, what stays, what goes on."""

from __future__ import annotations

import signal

import pytest

from hbseg.storage.opening import open_store
from tests.cluster.cluster import STATE_SECONDS, until
from tests.cluster.crew import PREPARE, TRAIN, fake, is_gone, row
from tests.cluster.team import Team


@pytest.mark.parametrize("words", [(*TRAIN, "-j", "2x1"), PREPARE], ids=["stage1", "prepare"])
def test_a_cancel_is_no_failure_and_another_submit_goes_on(
    crew: Team, words: tuple[str, ...]
) -> None:
    step = "stage1" if words[0] == "submit-train" else "prepare"
    waiting = fake(crew, **{step: ["wait", "ok"]})
    waiting.hbseg(*words)
    follower = waiting.start("logs", "drill", "--step", step, "-f")
    assert follower.stdout is not None
    assert any("acts: wait" in line for line in follower.stdout)

    waiting.hbseg("cancel", "drill", "-y")

    follower.communicate()
    assert row(crew, step)["state"] == "cancelled"
    assert is_gone(crew, "pods")
    waiting.hbseg(*words)
    until(lambda: row(crew, step)["state"] == "done", "the second submit ends well")


def test_a_delete_leaves_nothing(crew: Team) -> None:
    crew.hbseg(*TRAIN, "--wait")

    crew.hbseg("delete", "drill", "-y")

    until(lambda: is_gone(crew, "pods,pytorchjobs,jobs,configmaps"), "everything is gone")
    assert list(open_store(f"{crew.url}/runs").list()) == []


def test_submits_of_the_same_and_of_another_spec_meet_a_running_job(crew: Team) -> None:
    waiting = fake(crew, stage1=["wait"])
    waiting.hbseg(*TRAIN)

    again = waiting.hbseg(*TRAIN)
    line = waiting.api_error(5, *TRAIN, "--set", "run.epochs=7")

    assert "running already" in again.stderr
    assert "run.epochs" in line
    assert "7" in line


def test_ctrl_c_detaches_from_a_wait_and_says_how_to_come_back(crew: Team) -> None:
    waiting = fake(crew, stage1=["wait"])
    process = waiting.start(*TRAIN, "--follow")
    assert process.stderr is not None
    assert any("acts: wait" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=STATE_SECONDS)

    assert process.returncode == 130
    assert "hbseg logs drill" in told
    assert row(crew)["state"] == "running"
