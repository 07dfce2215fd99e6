"""A training that is killed on a GPU goes on to the same weights; so does one that is not."""

from __future__ import annotations

import time
from typing import Any

import psutil

from hbseg.store import open_store
from tests.gpu.people import People
from tests.trainings import left_by

SETTINGS = ("--set", "dataset.image_size=256", "--set", "run.epochs=6")
STEP = "hbseg_jobs.train"
SECONDS = 120.0


def restart(people: People) -> dict[str, Any]:
    """Train three times, the third with a kill -9; tell whether all ended alike."""
    for run in ("calm", "again"):
        people.hbseg(*_words(run))
    _killed(people, "stormy")
    calm, again, stormy = (left_by(_stage(people, run)) for run in ("calm", "again", "stormy"))
    alike = {"repeated": again == calm, "killed": stormy == calm}
    if not all(alike.values()):
        raise AssertionError(f"{alike}\n{calm.last}\n{again.last}\n{stormy.last}")
    return alike


def _words(run: str) -> tuple[str, ...]:
    return ("submit-train", "--stage", "1", "--run", run, "--wait", *SETTINGS)


def _stage(people: People, run: str) -> Any:
    return open_store(str(people.runs)).folder(run).folder("stage1")


def _killed(people: People, run: str) -> None:
    stage = _stage(people, run)
    with people.start(*_words(run)) as process:
        deadline = time.monotonic() + SECONDS
        while not any(entry.key.endswith("state.json") for entry in stage.list("checkpoints/")):
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline, "never wrote a checkpoint"
            time.sleep(0.05)
        step = next(one for one in _steps() if run in " ".join(one.cmdline()))
        step.kill()
        assert process.wait(SECONDS) == 0, process.stdout and process.stdout.read()
    assert stage.exists("_SUCCESS")


def _steps() -> list[psutil.Process]:
    """Return the training processes themselves; launcher and torchrun name the module, too."""
    found = [(one, one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    others = {"hbseg_jobs.launch", "torch.distributed.run"}
    return [one for one, words in found if STEP in words and not others & set(words)]
