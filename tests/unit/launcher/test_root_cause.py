"""The cause of a failure, told from torchrun's words and the ranks' records."""

import json
from pathlib import Path

import pytest

from hbseg.exit_codes import StepExit
from hbseg.launcher.rank_logs import RankLogs
from hbseg.launcher.root_cause import exits_by_themselves, explained
from hbseg.runs.attempts import AttemptResult

REPORT = """\
W1125 elastic/multiprocessing/api.py:1028] Sending process {stopped} closing signal SIGTERM
  rank      : {first} (local_rank: {first})
  exitcode  : {first_code} (pid: {first_pid})  (X)
  rank      : 1 (local_rank: 1)
  exitcode  : {second_code} (pid: 101)  (Y)
"""


def written(
    folder: Path, rank: int, code: int, time: float = 1.0, *, peer_lost: bool = False
) -> None:
    content = {
        "code": code,
        "reason": f"rank {rank}",
        "rank": rank,
        "time": time,
        "peer_lost": peer_lost,
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{rank}.json").write_text(json.dumps(content))


def explained_by(
    said: str, tmp_path: Path, *, code: int = 1, stopped: bool = False
) -> AttemptResult:
    """Return the result after torchrun and the ranks said so much; records are in `failures`."""
    logs = RankLogs(tmp_path / "logs", torchrun=True)
    logs.feed(said.encode())
    logs.close()
    return explained(code, logs, tmp_path / "failures", 1, stopped=stopped)


def test_a_rank_that_torchrun_stopped_is_no_cause() -> None:
    killed = REPORT.format(stopped=100, first=0, first_code=-15, first_pid=100, second_code=-9)
    assert exits_by_themselves(killed) == {1: -9}
    stuck = REPORT.format(stopped=101, first=0, first_code=70, first_pid=100, second_code=-9)
    assert exits_by_themselves(stuck) == {0: 70}
    assert exits_by_themselves("") == {}


def test_a_transient_code_is_no_signal_and_no_cause_of_an_earlier_failure(tmp_path: Path) -> None:
    logs = RankLogs(tmp_path / "logs", torchrun=True)
    report = REPORT.format(stopped=7, first=0, first_code=65, first_pid=100, second_code=170)
    logs.feed(report.encode())
    logs.close()
    failures = tmp_path / "failures"
    failures.mkdir()
    for rank, code, time in ((0, 65, 1.0), (1, 170, 1.1)):
        content = {"code": code, "reason": f"rank {rank}", "rank": rank, "time": time}
        (failures / f"{rank}.json").write_text(json.dumps(content))

    result = explained(1, logs, failures, 1, stopped=False)

    assert (result.code, result.reason) == (65, "rank 0")


def test_a_killed_rank_is_the_cause_whatever_its_peers_say(tmp_path: Path) -> None:
    logs = RankLogs(tmp_path, torchrun=True)
    report = REPORT.format(stopped=7, first=0, first_code=170, first_pid=100, second_code=-9)
    logs.feed(report.encode())
    logs.close()
    (tmp_path / "0.json").write_text('{"code": 170, "reason": "a peer is lost", "time": 1}')

    result = explained(1, logs, tmp_path, 1, stopped=False)

    assert result.code == 137
    assert "rank 1 was killed by SIGKILL" in result.reason


def test_a_lost_peer_is_no_cause_where_another_rank_has_one(tmp_path: Path) -> None:
    failures = tmp_path / "failures"
    written(failures, 0, 170, 1.0, peer_lost=True)
    report = REPORT.format(stopped=7, first=0, first_code=170, first_pid=100, second_code=3)
    without_record = explained_by(report, tmp_path)
    written(failures, 1, 65, 2.0)
    with_record = explained_by("", tmp_path)

    assert (without_record.code, without_record.rank, without_record.peer_lost) == (3, 1, False)
    assert (with_record.code, with_record.rank, with_record.peer_lost) == (65, 1, False)


def test_a_node_whose_ranks_only_lost_a_peer_says_so(tmp_path: Path) -> None:
    written(tmp_path / "failures", 2, 170, peer_lost=True)
    report = REPORT.format(stopped=101, first=2, first_code=170, first_pid=100, second_code=-15)

    result = explained_by(report, tmp_path)

    assert (result.code, result.rank, result.peer_lost) == (170, 2, True)


def test_ranks_that_agreed_to_end_since_another_node_was_told_to_are_terminated(
    tmp_path: Path,
) -> None:
    written(tmp_path / "failures", 0, 143)
    report = REPORT.format(stopped=101, first=0, first_code=143, first_pid=100, second_code=143)

    assert explained_by(report, tmp_path).code == 143


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError",
            "the other nodes did not come: rendezvous timed out",
        ),
        (
            "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection "
            "to the C10d store has failed. See inner exception for details.",
            "the node that keeps the rendezvous is gone or cannot be reached",
        ),
        (
            "torch.distributed.DistNetworkError: failed to recv, got 0 bytes",
            "the node that keeps the rendezvous is gone or cannot be reached",
        ),
    ],
)
def test_a_rendezvous_that_failed_is_a_lost_peer(tmp_path: Path, said: str, reason: str) -> None:
    result = explained_by(f"Traceback (most recent call last):\n{said}\n", tmp_path)

    assert (result.code, result.reason, result.peer_lost) == (170, reason, True)


def test_torchrun_s_own_bug_is_no_lost_peer(tmp_path: Path) -> None:
    result = explained_by("Traceback\nValueError: no such flag\n", tmp_path)

    assert (result.code, result.peer_lost) == (1, False)


def test_a_rank_that_nccl_s_watchdog_ended_lost_a_peer(tmp_path: Path) -> None:
    report = REPORT.format(stopped=7, first=0, first_code=-6, first_pid=100, second_code=-6)
    said = "[rank0]:[Rank 0] [PG ID 0] ProcessGroupNCCL's watchdog got an error\n"

    lost = explained_by(said + report, tmp_path / "lost")
    aborted = explained_by(report, tmp_path / "aborted")

    assert (lost.code, lost.rank, lost.peer_lost) == (170, 0, True)
    assert (aborted.code, aborted.peer_lost) == (134, False)


def test_an_end_after_sigterm_is_no_failure_and_one_that_went_well_stays_so(
    tmp_path: Path,
) -> None:
    assert explained_by("", tmp_path, code=1, stopped=True).code == StepExit.TERMINATED
    assert explained_by("", tmp_path, code=0, stopped=True).code == 0
