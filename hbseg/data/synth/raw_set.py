"""Writes synthetic hands as a raw data set in the task's own layout, traps included."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final

import cv2

from hbseg.data.synth.raw_pair import TEMPORARY, Pair, temporary, write_pair, write_whole
from hbseg.errors import InvalidInput

GENERATOR: Final = 1
"""Version of the generator; raised whenever the same seed gives other hands."""

CLAIM: Final = "synth.json"
"""File that says what a folder's hands were made from."""


def write_raw_set(
    out: Path,
    *,
    hands: int,
    test_hands: int,
    seed: int,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes `hands` training and `test_hands` test pictures, two a person, below `out`.

    Test hands have no annotation in `out/test`; their truth is in `out/test_truth`. Hands that
    are there already are kept, so that a run that was killed can be repeated. `progress` gets the
    number of hands that are there and of all hands.

    Raises InvalidInput for odd numbers of hands, and where `out` holds something else.
    """
    _check_numbers(hands, test_hands, seed, workers)
    _claim(out, {"hands": hands, "test_hands": test_hands, "seed": seed, "generator": GENERATOR})
    _remove_leftovers(out)
    pairs = list(_pairs(out, hands, test_hands, seed))
    missing = [pair for pair in pairs if not pair.is_complete()]
    report = progress or (lambda done, total: None)
    done = len(pairs) - len(missing)
    report(done, len(pairs))
    with closing(_written(missing, workers)) as written:
        for _ in written:
            done += 1
            report(done, len(pairs))


def _check_numbers(hands: int, test_hands: int, seed: int, workers: int) -> None:
    for name, number in (("hands", hands), ("test hands", test_hands)):
        if number < 0 or number % 2:
            raise InvalidInput(
                f"number of {name} is {number}, expected an even number: two hands a person",
                f"ask for {max(number + 1, 0) // 2 * 2}",
            )
    if hands + test_hands == 0:
        raise InvalidInput("no hands asked for", "ask for at least 2")
    if seed < 0:
        raise InvalidInput(f"seed is {seed}, expected 0 or more", "choose another seed")
    if workers < 1:
        raise InvalidInput(f"number of workers is {workers}, expected 1 or more", "ask for 1")


def _claim(out: Path, values: dict[str, int]) -> None:
    """Marks the folder as the place of exactly these hands, or refuses it."""
    claim = {"apiVersion": "hbseg/v1", "kind": "SyntheticSet", **values}
    next_step = "choose another folder or delete this one"
    if out.exists() and not out.is_dir():
        raise InvalidInput(f"{out} is no folder", "choose another one")
    path = out / CLAIM
    if path.exists():
        found = _read_claim(path)
        if found != claim:
            raise InvalidInput(
                f"{out} holds another synthetic set ({_summary(found)}; asked for "
                f"{_summary(claim)})",
                next_step,
            )
        return
    if out.exists() and any(file.name != temporary(path).name for file in out.iterdir()):
        raise InvalidInput(f"{out} is not empty and holds no {CLAIM}", next_step)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(claim, indent=2) + "\n").encode())


def _read_claim(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _summary(claim: dict[str, Any]) -> str:
    keys = ("hands", "test_hands", "seed", "generator")
    return ", ".join(f"{key} {claim.get(key, 'unknown')}" for key in keys)


def _remove_leftovers(out: Path) -> None:
    """Removes what a killed run had not finished writing."""
    for split in ("train", "test", "test_truth"):
        for leftover in (out / split).glob(f"*/*/.*{TEMPORARY}"):
            leftover.unlink()


def _pairs(out: Path, hands: int, test_hands: int, seed: int) -> Iterator[Pair]:
    """All pairs in order; the numbers of persons run on from training to test."""
    train_persons = hands // 2
    for person in range(1, train_persons + test_hands // 2 + 1):
        train = person <= train_persons
        yield Pair(out, seed, person, "R", train)
        yield Pair(out, seed, person, "L", train)


def _written(pairs: list[Pair], workers: int) -> Generator[None]:
    """Writes the pairs, here or in worker processes, yielding after each."""
    if workers == 1 or len(pairs) < 2:
        for pair in pairs:
            with _one_thread():
                write_pair(pair)
            yield
        return
    pool = ProcessPoolExecutor(
        min(workers, len(pairs)), multiprocessing.get_context("spawn"), _start_worker
    )
    try:
        for future in as_completed([pool.submit(write_pair, pair) for pair in pairs]):
            future.result()
            yield
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV's threads cost more than they give on single hands."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _start_worker() -> None:
    """One thread; an interrupt is the parent's to handle, and without a parent there is no work."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
