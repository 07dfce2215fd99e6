"""Attempts in storage: who takes a number, who joins it, and which result stands."""

import json
import threading
from typing import Any

import pytest

from hbseg.runs.attempts import (
    AttemptResult,
    attempt_numbers,
    claim_attempt,
    latest_attempt,
    read_attempt,
    read_failure,
    record_result,
)
from hbseg.runs.retries import end_series, series_before
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store

STAGE = Step.STAGE1


def result(code: int, number: int = 1, **more: Any) -> AttemptResult:
    return AttemptResult(
        code=code, reason=more.pop("reason", f"c{code}"), attempt=number, finished="t", **more
    )


@pytest.fixture
def run(store: Store) -> Run:
    return Run(store, "first")


@pytest.fixture
def here(tmp_path: Any) -> Run:
    return Run(open_store(tmp_path), "first")


def claimed(run: Run, node: int = 0, task: str = "stage1", **more: Any) -> int:
    return claim_attempt(run, STAGE, task, node=node, **more).number


def test_nodes_join_one_attempt_and_a_node_that_comes_back_begins_the_next(run: Run) -> None:
    assert [claimed(run, node) for node in (1, 0, 2)] == [1, 1, 1]
    assert claimed(run, 1) == 2
    assert claimed(run, 0) == 2
    record_result(run, STAGE, result(170, 2))
    assert claimed(run, 2) == 3
    assert attempt_numbers(run, STAGE) == [1, 2, 3]


def test_the_nodes_of_an_attempt_share_an_id_that_nobody_can_guess(run: Run) -> None:
    first, joined = (claim_attempt(run, STAGE, "stage1", node=node) for node in (0, 1))
    later = claim_attempt(run, STAGE, "stage1", node=1)

    assert (first.number, joined.number, later.number) == (1, 1, 2)
    assert joined.rendezvous_id == first.rendezvous_id
    assert later.rendezvous_id != first.rendezvous_id
    assert len(bytes.fromhex(first.rendezvous_id)) == 16


def test_an_attempt_of_an_older_version_is_readable_and_joined_by_nobody(run: Run) -> None:
    claimed(run)
    older = json.loads(run.folder.get("attempts/stage1/1.json"))
    del older["rendezvous_id"]
    run.folder.put("attempts/stage1/1.json", json.dumps(older).encode())

    assert latest_attempt(run, STAGE, "stage1") == 1
    assert claimed(run, 1) == 2


def test_nobody_joins_another_task_s_or_another_spec_s_attempt(here: Run) -> None:
    assert claimed(here, 0, task="engine-a") == 1
    assert claimed(here, 1, task="engine-b") == 2
    assert claimed(here, 1, task="engine-a") == 1
    assert claimed(here, 2, task="engine-a", spec_hash="new") == 3
    assert latest_attempt(here, STAGE, "engine-b") == 2
    assert latest_attempt(here, STAGE, "engine-c") == 0


def test_a_node_s_part_is_no_attempt(here: Run) -> None:
    for node in range(12):
        claimed(here, node)

    assert attempt_numbers(here, STAGE) == [1]


def test_of_many_nodes_at_once_all_take_part_in_one_attempt(run: Run) -> None:
    numbers: list[int] = []
    start = threading.Barrier(6)

    def come(node: int) -> None:
        start.wait()
        numbers.append(claimed(run, node))

    threads = [threading.Thread(target=come, args=(node,)) for node in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert numbers == [1] * 6


ROOT, LOST = result(65, rank=1), result(170, peer_lost=True)
SIGTERM, WELL = result(143, final=False), result(0, reason="")


@pytest.mark.parametrize(
    ("told", "stands"),
    [
        ([LOST, ROOT], ROOT),
        ([ROOT, LOST], ROOT),
        ([SIGTERM, ROOT], ROOT),
        ([LOST, SIGTERM, LOST], SIGTERM),
        ([WELL, LOST], LOST),
        ([LOST, WELL], LOST),
        ([ROOT, result(170)], ROOT),
    ],
)
def test_the_ending_that_tells_more_stands(
    run: Run, told: list[AttemptResult], stands: AttemptResult
) -> None:
    claimed(run)

    answers = [record_result(run, STAGE, one) for one in told]

    assert answers[-1] == stands
    attempt = read_attempt(run, STAGE, 1)
    assert attempt is not None
    assert attempt.result == stands
    assert read_failure(run, STAGE, 1) == stands


def test_a_success_leaves_no_failure(here: Run) -> None:
    claimed(here)

    assert record_result(here, STAGE, WELL) == WELL
    assert read_failure(here, STAGE, 1) is None


def test_an_ending_of_a_run_that_was_deleted_is_no_error(here: Run) -> None:
    assert record_result(here, STAGE, ROOT) == ROOT


def test_of_endings_at_once_the_failure_says_what_the_attempt_says(run: Run) -> None:
    claimed(run)
    start = threading.Barrier(4)

    def tell(one: AttemptResult) -> None:
        start.wait()
        record_result(run, STAGE, one)

    threads = [threading.Thread(target=tell, args=(one,)) for one in (LOST, SIGTERM, ROOT, WELL)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert read_failure(run, STAGE, 1) == ROOT


def with_endings(run: Run, *endings: AttemptResult | None, **more: Any) -> int:
    """Make an attempt with each of the endings, then one more; return its number."""
    for one in endings:
        number = claimed(run, **more)
        if one is not None:
            record_result(run, STAGE, one.model_copy(update={"attempt": number}))
    return claimed(run, **more)


AGAIN = result(170, final=False)


def codes(run: Run, number: int) -> list[int | None]:
    return [None if one is None else one.code for one in series_before(run, STAGE, number)]


def test_a_series_goes_back_to_what_nothing_followed(here: Run) -> None:
    assert codes(here, with_endings(here)) == []
    assert codes(here, with_endings(here, AGAIN, None, SIGTERM)) == [None, 170, None, 143]


@pytest.mark.parametrize("last", [result(65), WELL, result(170, final=True)])
def test_a_final_ending_or_a_success_cuts_the_series(here: Run, last: AttemptResult) -> None:
    assert codes(here, with_endings(here, AGAIN, last, AGAIN)) == [170]


def test_another_spec_another_task_and_a_new_start_are_another_series(here: Run) -> None:
    with_endings(here, AGAIN)
    assert codes(here, with_endings(here, AGAIN, spec_hash="new")) == [170]
    assert codes(here, claimed(here, task="other")) == []
    assert codes(here, claimed(here, spec_hash="new")) == [170, None]
    first = claimed(here, spec_hash="new", first=True)
    assert codes(here, first) == []
    assert codes(here, claimed(here, spec_hash="new")) == [None]


@pytest.mark.parametrize("last", [AGAIN, None, SIGTERM, WELL, result(66)])
def test_a_backend_can_end_a_series(here: Run, last: AttemptResult | None) -> None:
    claimed(here)
    if last is not None:
        record_result(here, STAGE, last)

    end_series(here, STAGE, "stage1")

    assert codes(here, claimed(here)) == []
    end_series(here, STAGE, "no such task")
