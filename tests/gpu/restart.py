"""A training that is killed goes on to the same bytes; one that is repeated has them, too."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import psutil

from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.gpu.people import People
from tests.trainings import left_by

SETTINGS = ("--set", "dataset.image_size=256", "--set", "run.epochs=6")
STEP = "hbseg_jobs.train"
SECONDS = 300.0


def restart(people: People) -> dict[str, Any]:
    """Train three times, the third with a kill -9; tell whether all ended alike."""
    for run in ("calm", "again"):
        people.hbseg(*people.train(run, "1", *SETTINGS))
    _killed(people, "stormy")
    calm, again, stormy = (left_by(_stage(people, run)) for run in ("calm", "again", "stormy"))
    alike = {"repeated": again == calm, "killed": stormy == calm}
    if not all(alike.values()):
        raise AssertionError(f"{alike}\n{calm.last}\n{again.last}\n{stormy.last}")
    return alike


def _stage(people: People, run: str) -> Store:
    return open_store(str(people.runs)).folder(run).folder("stage1")


def _killed(people: People, run: str) -> None:
    """Kill a training when its first checkpoint is there; return when it has gone on to its end."""
    stage = _stage(people, run)
    words = people.command(*people.train(run, "1", *SETTINGS))
    waiting = subprocess.Popen(words, env=people.environment)
    try:
        deadline = time.monotonic() + SECONDS
        while not any(entry.key.endswith("state.json") for entry in stage.list("checkpoints/")):
            assert waiting.poll() is None, "it ended before its first checkpoint"
            assert time.monotonic() < deadline, "it never wrote a checkpoint"
            time.sleep(0.05)
        _step_of(run).kill()
        assert waiting.wait(SECONDS) == 0
    finally:
        if waiting.poll() is None:
            waiting.kill()
            waiting.wait()
            people.hbseg("cancel", run, "-y")
    log = open_store(str(people.runs)).folder(run).get("logs/stage1/2/0.log")
    assert b"resuming from step" in log


def _step_of(run: str) -> psutil.Process:
    """Return the training process itself; its launcher and torchrun name the module, too."""
    others = {"hbseg_jobs.launch", "hbseg_jobs.torchrun"}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if STEP in words and run in words and not others & set(words):
            return process
    raise AssertionError(f"no process trains {run}")
