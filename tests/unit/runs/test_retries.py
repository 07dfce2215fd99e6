"""The retry authority: which failure another attempt follows, as a truth table.

tests/integration/test_attempts.py has attempts of several nodes, and real storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from hbseg.errors import NotFoundError, VersionError
from hbseg.exit_codes import PERMANENT
from hbseg.runs.attempts import (
    Attempt,
    AttemptResult,
    attempt_key,
    claim_attempt,
    read_attempt,
)
from hbseg.runs.retries import end_series, is_final, series_before, used_up
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.folder import FolderStore

STAGE = Step.STAGE1
NEVER = 10**9
"""More retries than anybody grants."""
RETRIES = range(6)

UNDOCUMENTED = (1, 2, 3, 127)
"""Codes below 128 that no step documents."""
PASSING = (128, 134, 139, 170, 255)
"""What may pass: signals but SIGKILL and SIGTERM, and the code that asks for another attempt."""
KINDS = ("undocumented", "passing", "killed", "terminated")
CODES = {
    "undocumented": UNDOCUMENTED,
    "passing": PASSING,
    "killed": (137,),
    "terminated": (143,),
}


def result(code: int, *, final: bool = False, number: int = 1) -> AttemptResult:
    return AttemptResult(code=code, reason="", attempt=number, finished="t", final=final)


def results(codes: tuple[int | None, ...]) -> list[AttemptResult | None]:
    """Return a series; none for an attempt that was killed with its launcher."""
    return [None if code is None else result(code) for code in codes]


# For each history, how many retries it takes that another attempt follows a result of each kind.
FOLLOWED_FROM: dict[tuple[int | None, ...], tuple[int, int, int, int]] = {
    # history: (undocumented, passing, killed, terminated)
    (): (1, 1, 1, 0),
    (143,): (1, 1, 1, 0),
    (143, 143, 143): (1, 1, 1, 0),
    (170,): (2, 2, 2, 0),
    (134,): (2, 2, 2, 0),
    (170, 143): (2, 2, 2, 0),
    (170, 170): (3, 3, 3, 0),
    (170, 170, 170, 170): (5, 5, 5, 0),
    (137,): (NEVER, 2, NEVER, 0),
    (None,): (NEVER, 2, NEVER, 0),
    (3,): (NEVER, 2, NEVER, 0),
    (None, 143, 143): (NEVER, 2, NEVER, 0),
    (137, 170): (NEVER, 3, NEVER, 0),
    (170, None): (NEVER, 3, NEVER, 0),
    (None, None): (NEVER, NEVER, NEVER, 0),
    (137, None): (NEVER, NEVER, NEVER, 0),
    (3, 137): (NEVER, NEVER, NEVER, 0),
    (3, 170, 1): (NEVER, NEVER, NEVER, 0),
}


@pytest.mark.parametrize("history", FOLLOWED_FROM)
def test_codes_history_and_retries_say_whether_anything_follows(
    history: tuple[int | None, ...],
) -> None:
    before = results(history)
    for kind, least in zip(KINDS, FOLLOWED_FROM[history], strict=True):
        for code in CODES[kind]:
            followed = [not is_final(result(code), before, retries) for retries in RETRIES]

            assert followed == [retries >= least for retries in RETRIES], (kind, code)


@pytest.mark.parametrize("code", [0, *PERMANENT])
def test_nothing_follows_a_success_or_a_code_that_says_it_does_not_help(code: int) -> None:
    for history in FOLLOWED_FROM:
        assert all(is_final(result(code), results(history), retries) for retries in RETRIES)


@pytest.mark.parametrize(
    ("series", "least"),
    [
        ((), 0),
        ((143, 143), 0),
        ((170,), 1),
        ((134, 134), 2),
        ((170, 143, 170, 143, 170), 3),
        ((None,), 1),
        ((None, 143), 1),
        ((None, 143, 170), 2),
        ((137, 134, 170), 3),
        ((None, None), NEVER),
        ((None, 137), NEVER),
        ((3, 170, None), NEVER),
        ((3, 1), NEVER),
    ],
)
def test_a_series_is_used_up_by_its_failures(series: tuple[int | None, ...], least: int) -> None:
    used = [used_up(results(series), retries) for retries in RETRIES]

    assert used == [retries < least for retries in RETRIES]


@dataclass(frozen=True)
class Made:
    """An attempt in storage."""

    code: int | None = None
    """How it ended; none: not, or killed with its launcher."""
    final: bool = False
    task: str = "stage1"
    spec: str = "a"
    first: bool = False


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FolderStore(tmp_path), "hands")


def store(run: Run, *attempts: Made, start: int = 1) -> int:
    """Put attempts into storage, numbered from `start`; return the number of the last one."""
    for number, made in enumerate(attempts, start):
        ended = None if made.code is None else result(made.code, final=made.final, number=number)
        attempt = Attempt(
            task=made.task,
            number=number,
            host="here",
            started="t",
            spec_hash=made.spec,
            first=made.first,
            result=ended,
        )
        run.folder.put(attempt_key(STAGE, number), attempt.to_json())
    return start + len(attempts) - 1


def codes_before(run: Run, number: int) -> list[int | None]:
    found = series_before(run, STAGE, number)
    return [None if one is None else one.code for one in found]


AGAIN, OPEN = Made(170), Made()


@pytest.mark.parametrize(
    ("attempts", "series"),
    [
        ([OPEN], []),
        ([AGAIN, OPEN], [170]),
        ([AGAIN, OPEN, Made(143), Made(3), OPEN], [170, None, 143, 3]),
        # what ends a series
        ([AGAIN, Made(0), AGAIN, OPEN], [170]),
        ([AGAIN, Made(0), OPEN], []),
        ([AGAIN, Made(65, final=True), AGAIN, OPEN], [170]),
        ([AGAIN, Made(170, final=True), OPEN], []),
        ([AGAIN, Made(170, spec="old"), AGAIN, OPEN], [170]),
        ([AGAIN, Made(170, spec="old"), OPEN], []),
        ([AGAIN, Made(137, first=True), AGAIN, OPEN], [137, 170]),
        ([AGAIN, AGAIN, Made(first=True)], []),
        # another task's attempts are none of it, however they ended
        ([AGAIN, Made(0, task="engine-a"), Made(task="engine-b", first=True), OPEN], [170]),
    ],
)
def test_a_series_goes_back_to_what_nothing_followed(
    run: Run, attempts: list[Made], series: list[int | None]
) -> None:
    assert codes_before(run, store(run, *attempts)) == series


def test_later_attempts_are_not_before_and_a_missing_one_has_no_series(run: Run) -> None:
    store(run, AGAIN, Made(3), AGAIN, OPEN)

    assert codes_before(run, 2) == [170]
    assert codes_before(run, 9) == []


def test_an_attempt_that_is_damaged_is_passed_over(run: Run) -> None:
    last = store(run, AGAIN, AGAIN, OPEN)
    run.folder.put(attempt_key(STAGE, 2), b'{"apiVersion": "hbseg/v1"}')

    assert codes_before(run, last) == [170]


def test_an_attempt_of_a_newer_version_is_neither_counted_nor_joined(run: Run) -> None:
    last = store(run, AGAIN, AGAIN, OPEN)
    run.folder.put(attempt_key(STAGE, 2), b'{"apiVersion": "hbseg/v9"}')
    with pytest.raises(VersionError, match=r"attempts/stage1/2\.json was written as hbseg/v9"):
        codes_before(run, last)

    run.folder.put(attempt_key(STAGE, last), b'{"apiVersion": "hbseg/v9"}')
    with pytest.raises(VersionError):
        claim_attempt(run, STAGE, "stage1")


@pytest.mark.parametrize(
    ("last", "code"), [(OPEN, 137), (AGAIN, 170), (Made(143), 143), (Made(3), 3)]
)
def test_a_backend_ends_a_series_and_keeps_how_its_last_attempt_ended(
    run: Run, last: Made, code: int
) -> None:
    number = store(run, AGAIN, last)

    end_series(run, STAGE, "stage1")

    attempt = read_attempt(run, STAGE, number)
    assert attempt is not None
    assert attempt.result is not None
    assert (attempt.result.code, attempt.result.final) == (code, True)
    assert codes_before(run, store(run, OPEN, start=number + 1)) == []


class ReadOnly(FolderStore):
    def put(self, key: str, data: bytes) -> None:
        raise AssertionError(f"{key} was written")

    def put_if_match(self, key: str, data: bytes, tag: str) -> bool:
        raise AssertionError(f"{key} was written")


@pytest.mark.parametrize("last", [Made(0), Made(66, final=True), Made(170, final=True)])
def test_a_series_that_has_ended_is_left_as_it_is(run: Run, tmp_path: Path, last: Made) -> None:
    store(run, AGAIN, last)

    end_series(Run(ReadOnly(tmp_path), "hands"), STAGE, "stage1")
    end_series(Run(ReadOnly(tmp_path), "hands"), STAGE, "no such task")


@pytest.mark.parametrize("last", [AGAIN, OPEN])
def test_a_run_that_is_deleted_while_its_series_ends_is_no_error(
    run: Run, tmp_path: Path, last: Made
) -> None:
    class Deleted(FolderStore):
        def get_tagged(self, key: str) -> tuple[bytes, str]:
            raise NotFoundError(f"not found: {key}")

    store(run, last)

    end_series(Run(Deleted(tmp_path), "hands"), STAGE, "stage1")
