"""The cause of a failure, told from torchrun's report and the ranks' records."""

import json
from pathlib import Path
from typing import Literal

import pytest

from hbseg.exit_codes import StepExit
from hbseg.launcher.rank_logs import RankLogs
from hbseg.launcher.root_cause import explained
from hbseg.runs.attempts import AttemptResult
from hbseg.runs.torchrun_report import RankExit, TorchrunReport, read_torchrun_report


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
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{rank}.json").write_text(json.dumps(content))


def report(*codes: int, stopped: tuple[int, ...] = (), first: int = 0) -> TorchrunReport:
    """Return torchrun's report of ranks, from number `first` on, that ended with `codes`."""
    exits = [
        RankExit(
            rank=rank,
            local_rank=rank - first,
            pid=100 + rank,
            exit_code=code,
            time=7,
            stopped=rank in stopped,
        )
        for rank, code in enumerate(codes, first)
    ]
    return TorchrunReport(exits=exits)


def explained_by(
    told: TorchrunReport,
    tmp_path: Path,
    *,
    said: str = "",
    code: int = 1,
    stopped: bool = False,
) -> AttemptResult:
    """Return the result after torchrun and the ranks said so much; records are in `failures`."""
    logs = RankLogs(tmp_path / "logs", torchrun=True)
    logs.feed(said.encode())
    logs.close()
    return explained(code, logs, told, tmp_path / "failures", 1, stopped=stopped)


def test_a_rank_that_torchrun_stopped_is_no_cause(tmp_path: Path) -> None:
    killed = explained_by(report(-15, -9, stopped=(0,)), tmp_path)
    stuck = explained_by(report(70, -9, stopped=(1,)), tmp_path)

    assert (killed.code, killed.rank) == (137, 1)
    assert (stuck.code, stuck.rank) == (70, 0)


def test_a_rank_that_somebody_else_terminated_is_a_cause(tmp_path: Path) -> None:
    result = explained_by(report(-15, 143, stopped=(1,)), tmp_path)

    assert (result.code, result.rank) == (143, 0)
    assert result.reason == "rank 0 was killed by SIGTERM"


def test_a_transient_code_is_no_signal_and_no_cause_of_an_earlier_failure(tmp_path: Path) -> None:
    written(tmp_path / "failures", 0, 65, 1.0)
    written(tmp_path / "failures", 1, 170, 1.1)

    result = explained_by(report(65, 170), tmp_path)

    assert (result.code, result.reason) == (65, "rank 0")


def test_a_killed_rank_is_the_cause_whatever_its_peers_say(tmp_path: Path) -> None:
    written(tmp_path / "failures", 0, 170)

    result = explained_by(report(170, -9), tmp_path)

    assert result.code == 137
    assert "rank 1 was killed by SIGKILL" in result.reason


def test_a_lost_peer_is_no_cause_where_another_rank_has_one(tmp_path: Path) -> None:
    failures = tmp_path / "failures"
    written(failures, 0, 170, 1.0, peer_lost=True)
    without_record = explained_by(report(170, 3), tmp_path)
    written(failures, 1, 65, 2.0)
    with_record = explained_by(TorchrunReport(), tmp_path)

    assert (without_record.code, without_record.rank, without_record.peer_lost) == (3, 1, False)
    assert (with_record.code, with_record.rank, with_record.peer_lost) == (65, 1, False)


def test_a_node_whose_ranks_only_lost_a_peer_says_so(tmp_path: Path) -> None:
    written(tmp_path / "failures", 2, 170, peer_lost=True)

    result = explained_by(report(170, -15, stopped=(3,), first=2), tmp_path)

    assert (result.code, result.rank, result.peer_lost) == (170, 2, True)


def test_ranks_that_agreed_to_end_since_another_node_was_told_to_are_terminated(
    tmp_path: Path,
) -> None:
    written(tmp_path / "failures", 0, 143)

    assert explained_by(report(143, 143, stopped=(1,)), tmp_path).code == 143


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("absent", "the other nodes did not come: rendezvous timed out"),
        ("lost", "the node that keeps the rendezvous is gone or cannot be reached"),
    ],
)
def test_a_rendezvous_that_failed_is_a_lost_peer(
    tmp_path: Path, nodes: Literal["absent", "lost"], reason: str
) -> None:
    result = explained_by(TorchrunReport(nodes=nodes), tmp_path)

    assert (result.code, result.reason, result.peer_lost) == (170, reason, True)


def test_torchrun_s_own_bug_is_no_lost_peer(tmp_path: Path) -> None:
    said = "Traceback\nValueError: no such flag, not a RendezvousTimeoutError\n"

    result = explained_by(TorchrunReport(), tmp_path, said=said)

    assert (result.code, result.peer_lost) == (1, False)


def test_a_rank_that_nccl_s_watchdog_ended_lost_a_peer(tmp_path: Path) -> None:
    said = "[rank0]:[Rank 0] [PG ID 0] ProcessGroupNCCL's watchdog got an error\n"

    lost = explained_by(report(-6, -6), tmp_path / "lost", said=said)
    aborted = explained_by(report(-6, -6), tmp_path / "aborted")

    assert (lost.code, lost.rank, lost.peer_lost) == (170, 0, True)
    assert (aborted.code, aborted.peer_lost) == (134, False)


def test_an_end_after_sigterm_is_no_failure_and_one_that_went_well_stays_so(
    tmp_path: Path,
) -> None:
    nothing = TorchrunReport()

    assert explained_by(nothing, tmp_path, code=1, stopped=True).code == StepExit.TERMINATED
    assert explained_by(nothing, tmp_path, code=0, stopped=True).code == 0


def test_a_report_is_read_as_it_was_written_and_half_a_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    told = report(-9, 170, stopped=(1,))

    told.write(path)

    assert read_torchrun_report(path) == told
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    path.write_bytes(path.read_bytes()[:-9])
    assert read_torchrun_report(path) == TorchrunReport()
    assert read_torchrun_report(tmp_path / "absent") == TorchrunReport()
