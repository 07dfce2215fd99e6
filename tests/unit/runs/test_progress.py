"""Heartbeat of processes, what is told of them, and when one of them has stalled."""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hbseg.launcher.log_upload import ProgressNotes
from hbseg.runs.progress import (
    Beat,
    Heartbeat,
    ProgressReport,
    StallWatch,
    read_heartbeats,
    report_of,
)


def beat(rank: int, done: int, when: float, *, waiting_for_peers: bool = False) -> Beat:
    return Beat(rank, done, 400, "steps", 2, 5, when, waiting_for_peers)


def put(folder: Path, told: Beat) -> None:
    (folder / f"{told.rank}.json").write_text(json.dumps(asdict(told)))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_beat_is_there_at_once_and_the_latest_soon(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "progress", rank=3)
    heartbeat.beat(0, 9, "images", epoch=1, epochs=2)
    (first,) = read_heartbeats(tmp_path / "progress")
    for done in range(1, 8):
        heartbeat.beat(done, 9, "images")
    heartbeat.touch(waiting_for_peers=True)
    heartbeat.flush()
    (last,) = read_heartbeats(tmp_path / "progress")

    assert (first.rank, first.done, first.epoch, first.epochs) == (3, 0, 1, 2)
    assert (last.done, last.total, last.unit, last.waiting_for_peers) == (7, 9, "images", True)
    assert first.time <= last.time <= time.time()


def test_beats_are_written_without_being_asked(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path)
    heartbeat.beat(0, 9, "images")
    heartbeat.beat(5, 9, "images")

    deadline = time.monotonic() + 30
    while read_heartbeats(tmp_path)[0].done != 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_beats_without_a_folder_cost_nothing_and_keep_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HBSEG_PROGRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    heartbeat = Heartbeat.of_environment()
    heartbeat.touch()
    heartbeat.beat(1, 2, "steps")
    heartbeat.flush()

    assert list(tmp_path.iterdir()) == []


def test_the_environment_says_where_a_rank_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HBSEG_PROGRESS", str(tmp_path))
    monkeypatch.setenv("RANK", "5")
    Heartbeat.of_environment().beat(1, 2, "calls")

    assert [path.name for path in tmp_path.iterdir()] == ["5.json"]


def test_a_folder_that_cannot_be_written_costs_the_beat_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    heartbeat = Heartbeat(tmp_path / "file")
    heartbeat.beat(1, 2, "steps")

    assert read_heartbeats(tmp_path / "file") == []


def test_half_a_beat_is_none(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text('{"rank": 0, "done"')
    (tmp_path / "1.json").write_text('{"rank": 1}')
    (tmp_path / "2.json").write_text("[1]")

    assert read_heartbeats(tmp_path) == []


def test_a_report_is_of_the_slowest_and_names_the_most_silent(tmp_path: Path) -> None:
    first = beat(0, 100, 1000.0)
    report = report_of([beat(0, 121, 1010.0), beat(1, 120, 1020.0)], first, stall_timeout=9)

    assert (report.done, report.total, report.unit) == (120, 400, "steps")
    assert (report.epoch, report.epochs) == (2, 5)
    assert report.rate == pytest.approx(1.0)
    assert report.seconds_left == pytest.approx(280.0)
    assert (report.rank, report.beat) == (0, "1970-01-01T00:16:50+00:00")
    assert report.silence(datetime.fromtimestamp(1030, UTC)) == 20
    assert ProgressReport.from_text(report.to_json(), source="x") == report


def test_without_a_second_beat_no_rate_is_known() -> None:
    only = beat(0, 100, 1000.0)
    report = report_of([only], only, stall_timeout=9)

    assert (report.rate, report.seconds_left) == (0.0, None)


def test_notes_say_only_what_is_new(tmp_path: Path) -> None:
    notes = ProgressNotes(tmp_path, 9.0)
    assert notes.report() is None
    assert not notes.has_begun
    put(tmp_path, beat(0, 100, 1000.0))
    assert notes.report() is not None
    assert notes.has_begun
    assert notes.report() is None
    put(tmp_path, beat(0, 110, 1020.0))
    report = notes.report()

    assert report is not None
    assert report.rate == pytest.approx(0.5)
    assert ProgressNotes(None, 9.0).has_begun


def test_no_beat_is_no_stall(tmp_path: Path) -> None:
    clock = Clock()
    watch = StallWatch(tmp_path, 10.0, clock)
    assert watch.look() is None
    clock.now += 1000

    assert watch.look() is None


def test_the_silent_rank_is_named_once_the_limit_is_over(tmp_path: Path) -> None:
    clock = Clock()
    watch = StallWatch(tmp_path, 900.0, clock)
    put(tmp_path, beat(0, 12, 5.0))
    put(tmp_path, beat(1, 12, 4.0))
    assert watch.look() is None
    clock.now += 600
    put(tmp_path, beat(0, 13, 6.0))
    assert watch.look() is None
    clock.now += 300.5
    stall = watch.look()

    assert stall is not None
    assert stall.rank == 1
    assert stall.reason == "rank 1 stalled: no step for 900 s, last was step 12 of 400"


def test_a_rank_that_waits_for_another_one_is_no_cause(tmp_path: Path) -> None:
    clock = Clock()
    watch = StallWatch(tmp_path, 10.0, clock)
    put(tmp_path, beat(0, 12, 4.0, waiting_for_peers=True))
    put(tmp_path, beat(1, 12, 5.0))
    watch.look()
    clock.now += 11
    stall = watch.look()

    assert stall is not None
    assert (stall.rank, stall.waiting_for_peers) == (1, False)


def test_a_beat_without_progress_is_one_too(tmp_path: Path) -> None:
    clock = Clock()
    watch = StallWatch(tmp_path, 10.0, clock)
    for second in range(0, 100, 8):
        put(tmp_path, beat(0, 12, float(second)))
        clock.now += 8
        assert watch.look() is None


def test_each_part_of_a_step_has_a_rate_of_its_own(tmp_path: Path) -> None:
    notes = ProgressNotes(tmp_path, 9.0)
    told = []
    for done, unit, when in (
        (0, "files", 0.0),
        (600, "files", 600.0),
        (0, "images", 601.0),
        (80, "images", 609.0),
        (1, "images", 612.0),
        (21, "images", 622.0),
    ):
        put(tmp_path, Beat(0, done, 800, unit, None, None, when))
        report = notes.report()
        assert report is not None
        told.append(report.rate)

    assert told == [0.0, 1.0, 0.0, 10.0, 0.0, 2.0]
