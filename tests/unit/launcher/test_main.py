"""The launcher's pieces that need no process."""

from pathlib import Path

import pytest

from hbseg.errors import SpecError
from hbseg.launcher.main import exit_code_of_pod
from hbseg.launcher.options import options_of
from hbseg.launcher.rank_logs import (
    MAX_LINE,
    MAX_LOG,
    RankLogs,
    end_of,
)
from hbseg.launcher.termination import MAX_MESSAGE, termination_message
from hbseg.runs.attempts import AttemptResult


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
    logs.feed(b"x" * (MAX_LINE + 1))

    assert (tmp_path / "0.log").stat().st_size > MAX_LINE
    logs.close()


def test_the_rest_of_a_long_line_stays_with_its_rank(tmp_path: Path) -> None:
    logs = RankLogs(tmp_path, torchrun=True)
    logs.feed(b"[rank1]:b\n[rank0]:" + b"x" * (MAX_LINE + 1))
    logs.feed(b"y\n[rank1]:c\n")
    logs.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.log", "1.log"]
    assert (tmp_path / "0.log").read_bytes().endswith(b" y\n")


def test_a_placement_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    given = {"job": str(tmp_path), "module": "m", "placement": '{"nodes": 1, "later": 2}'}
    of_the_step = dict.fromkeys(("data", "spec", "work", "spec-hash"), "x")
    of_the_step |= {"step": "infer", "runs": str(tmp_path), "run-name": "r", "prefix": "infer"}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    words += ["--", *(f"--{name}={value}" for name, value in of_the_step.items())]

    with pytest.raises(SpecError, match="--placement: later: ") as error:
        options_of(words).launch()

    assert error.value.hint == "submit with the same hbseg version as the image's"


def test_only_the_end_of_a_huge_log_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"first\n" + b"y" * 99 + b"\n" + b"z\n" * (MAX_LOG // 2 - 10))

    data = end_of(path)

    assert len(data) <= MAX_LOG
    assert data.startswith(b"z\n")


@pytest.mark.parametrize(
    ("code", "final", "exit_code"),
    [
        (0, True, 0),
        (143, False, 143),
        (65, True, 65),
        (70, True, 70),
        (78, True, 78),
        (170, False, 170),
        (170, True, 1),
        (137, False, 170),
        (137, True, 1),
        (3, False, 170),
        (3, True, 1),
    ],
)
def test_the_exit_code_tells_an_operator_what_to_do(code: int, final: bool, exit_code: int) -> None:
    result = AttemptResult(code=code, attempt=1, finished="t", final=final)

    assert exit_code_of_pod(result) == exit_code


@pytest.mark.parametrize("reason", ["", "x" * 9000, "손" * 3000, '"\\' * 3000, "\n" * 5000])
def test_a_termination_message_is_whole_json_whatever_the_reason(reason: str) -> None:
    result = AttemptResult(code=70, reason=reason, attempt=7, finished="t", rank=3)

    message = termination_message(result)

    assert len(message) <= MAX_MESSAGE
    told = AttemptResult.from_text(message, source="x")
    assert (told.code, told.rank, told.attempt) == (70, 3, 7)
    kept = told.reason.removesuffix("...")
    assert reason.startswith(kept)
    assert len(kept) > 1000 or kept == reason


def test_lines_are_echoed_with_time_and_rank(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = RankLogs(tmp_path, torchrun=True, node=1, echo=True)
    logs.feed(b"[rank2]:two\nits own\n[rank3]:no end")
    logs.close()

    lines = capfd.readouterr().out.splitlines()

    assert [line.partition(" ")[2] for line in lines] == [
        "[2] two",
        "[torchrun] its own",
        "[3] no end",
    ]
    assert all(line.partition(" ")[0].endswith("Z") for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.log", "3.log", "torchrun-1.log"]


def test_a_node_without_torchrun_is_a_rank_of_its_own(tmp_path: Path) -> None:
    logs = RankLogs(tmp_path, torchrun=False, node=3)
    logs.feed(b"a\n")
    logs.close()

    assert [path.name for path in tmp_path.iterdir()] == ["3.log"]
