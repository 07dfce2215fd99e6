"""What a node does when its step has ended, before it says so."""

import signal
import threading
from pathlib import Path

import pytest

from hbseg.config.placement import Placement
from hbseg.launcher.execution import await_root_cause
from hbseg.launcher.options import Launch
from hbseg.launcher.stop_request import stop_request
from hbseg.runs.attempts import AttemptResult, claim_attempt, record_result
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.opening import open_store


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """A node of a gang, in attempt 1."""
    run = Run(open_store(tmp_path), "r")
    claim_attempt(run, Step.STAGE1, "stage1")
    return Launch(
        job=tmp_path,
        module="m",
        arguments=(),
        step=Step.STAGE1,
        run=run,
        prefix="stage1",
        placement=Placement(nodes=2),
        spec_hash="",
        spec=tmp_path / "spec.yaml",
        data=str(tmp_path),
        work=tmp_path,
    )


def result(code: int, *, peer_lost: bool) -> AttemptResult:
    return AttemptResult(code=code, attempt=1, finished="t", final=False, peer_lost=peer_lost)


def test_the_word_of_a_lost_node_is_waited_for(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hbseg.launcher.execution.ROOT_CAUSE_SECONDS", 300.0)
    record_result(launch.run, Step.STAGE1, result(170, peer_lost=True))
    word = result(143, peer_lost=False)
    with stop_request() as stop:
        threading.Timer(0.2, record_result, (launch.run, Step.STAGE1, word)).start()
        await_root_cause(launch, 1, stop)

    assert record_result(launch.run, Step.STAGE1, result(170, peer_lost=True)) == word


def test_a_node_that_says_nothing_is_not_waited_for_for_ever(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hbseg.launcher.execution.ROOT_CAUSE_SECONDS", 9e9)
    with stop_request() as stop:
        stop.set(signal.SIGTERM, None)
        await_root_cause(launch, 1, stop)
        stop.is_set = False
        monkeypatch.setattr("hbseg.launcher.execution.ROOT_CAUSE_SECONDS", 0.0)
        await_root_cause(launch, 1, stop)

    lost = result(170, peer_lost=True)
    assert record_result(launch.run, Step.STAGE1, lost) == lost
