"""The launcher's pieces that need no process."""

import json
from pathlib import Path

import pytest

from hbseg.launcher import step_environment
from hbseg.placement import Placement
from hbseg.rank_logs import LARGEST_LOG, LONGEST_LINE, RankLogs, end_of
from hbseg.root_cause import CANCELLED, earliest_record, exits_by_themselves, explained
from hbseg.steps import Step

REPORT = """\
W1125 elastic/multiprocessing/api.py:1028] Sending process {stopped} closing signal SIGTERM
  rank      : {first} (local_rank: {first})
  exitcode  : {first_code} (pid: {first_pid})  (X)
  rank      : 1 (local_rank: 1)
  exitcode  : {second_code} (pid: 101)  (Y)
"""


def test_lines_go_to_their_ranks_whatever_the_pieces(tmp_path: Path) -> None:
    text = b"[rank0]:a\r\n[rank1]:b\nno rank\n[rank0]: c\n[rank11]:\n[rank0]:end"
    for size in (1, 3, 1000):
        logs = RankLogs(tmp_path / str(size), torchrun=True)
        for start in range(0, len(text), size):
            logs.feed(text[start : start + size])
        logs.close()
        lines = {
            path.stem: [line.partition(" ")[2] for line in path.read_text().splitlines()]
            for path in (tmp_path / str(size)).iterdir()
        }
        assert lines == {
            "0": ["a", "c", "end"],
            "1": ["b"],
            "11": [""],
            "torchrun": ["no rank"],
        }
        assert logs.last_line == "end"


def test_lines_that_torchrun_glued_are_told_apart(tmp_path: Path) -> None:
    logs = RankLogs(tmp_path, torchrun=True)
    logs.feed(b"[rank1]:one[rank0]:nought\n[rank0]:[rank0]: Traceback\n")
    logs.close()

    lines = {
        path.stem: [line.partition(" ")[2] for line in path.read_text().splitlines()]
        for path in tmp_path.iterdir()
    }
    assert lines == {"1": ["one"], "0": ["nought", "Traceback"]}


def test_a_step_without_torchrun_has_one_rank(tmp_path: Path) -> None:
    logs = RankLogs(tmp_path, torchrun=False)
    logs.feed(b"[rank1]:as it is\n\xff not utf-8\n")
    logs.close()

    assert [path.name for path in tmp_path.iterdir()] == ["0.log"]
    assert b"Z [rank1]:as it is\n" in (tmp_path / "0.log").read_bytes()


def test_a_line_without_an_end_does_not_grow_for_ever(tmp_path: Path) -> None:
    logs = RankLogs(tmp_path, torchrun=False)
    logs.feed(b"x" * (LONGEST_LINE + 1))

    assert (tmp_path / "0.log").stat().st_size > LONGEST_LINE
    logs.close()


def test_only_the_end_of_a_huge_log_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"first\n" + b"y" * 99 + b"\n" + b"z\n" * (LARGEST_LOG // 2 - 10))

    data = end_of(path)

    assert len(data) <= LARGEST_LOG
    assert data.startswith(b"z\n")


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

    ending = explained(1, logs, failures, 1, stopped=False)

    assert (ending.code, ending.reason) == (65, "rank 0")


def test_a_killed_rank_is_the_cause_whatever_its_peers_say(tmp_path: Path) -> None:
    logs = RankLogs(tmp_path, torchrun=True)
    report = REPORT.format(stopped=7, first=0, first_code=170, first_pid=100, second_code=-9)
    logs.feed(report.encode())
    logs.close()
    (tmp_path / "0.json").write_text('{"code": 170, "reason": "a peer is lost", "time": 1}')

    ending = explained(1, logs, tmp_path, 1, stopped=False)

    assert ending.code == 137
    assert "rank 1 was killed by SIGKILL" in ending.reason


def test_theearliest_record_counts_and_a_stopped_rank_does_not(tmp_path: Path) -> None:
    def record(rank: int, code: int, time: float) -> None:
        content = {"code": code, "reason": f"rank {rank}", "rank": rank, "time": time}
        (tmp_path / f"{rank}.json").write_text(json.dumps(content))

    record(0, CANCELLED, 1.0)
    assert earliest_record(tmp_path) is None
    record(1, 170, 3.0)
    record(2, 65, 2.0)
    (tmp_path / "3.json").write_text("{half")
    assert earliest_record(tmp_path) == (65, "rank 2")


def test_cores_are_shared_out_between_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hbseg.launcher.usable_cores", lambda: 8)
    two = Placement(processes_per_node=2)

    assert step_environment(Step.STAGE1, two, tmp_path)["OMP_NUM_THREADS"] == "4"
    assert step_environment(Step.INFER, two, tmp_path)["OMP_NUM_THREADS"] == "8"
    many = Placement(processes_per_node=16)
    assert step_environment(Step.STAGE1, many, tmp_path)["OMP_NUM_THREADS"] == "1"
    given = Placement(threads_per_process=3)
    assert step_environment(Step.STAGE1, given, tmp_path)["MKL_NUM_THREADS"] == "3"
