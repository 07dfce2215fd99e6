from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from hbseg.data.workers import parallel_map
from hbseg.errors import StepFailed


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(parallel_map(abs, range(-30, 0), workers=workers)) == list(range(30, 0, -1))


def test_nothing_is_started_for_no_items() -> None:
    assert list(parallel_map(double, [], workers=4)) == []


def test_an_item_is_taken_only_when_a_result_is_wanted() -> None:
    taken: list[int] = []

    def note(number: int) -> int:
        taken.append(number)
        return number

    results = parallel_map(note, range(100), workers=1)
    next(results)
    assert taken == [0]


def test_a_worker_that_dies_is_one_line_not_a_traceback() -> None:
    with pytest.raises(StepFailed, match=r"a worker process was killed.*use fewer workers"):
        list(parallel_map(os._exit, [3, 3], workers=2))


SLEEPERS = """
import time
from hbseg.data.workers import parallel_map
if __name__ == "__main__":
    list(parallel_map(time.sleep, [300, 300], workers=2))
"""


def test_workers_do_not_outlive_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPERS]) as process:
        parent = psutil.Process(process.pid)
        deadline = time.monotonic() + 60
        while len(children := parent.children(recursive=True)) < 3:  # with the resource tracker
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
