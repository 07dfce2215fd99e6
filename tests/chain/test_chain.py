"""The whole chain by the command line: real pictures, real S3, real torchrun with two processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from hbseg import rle, submission
from hbseg.anatomy import BONES
from hbseg.data.dataset import open_version
from hbseg.ml.checkpoint import WEIGHTS
from hbseg.store import Store, open_store
from tests.trainings import left_by

if TYPE_CHECKING:
    from tests.chain.conftest import Laptop

PATIENCE = 240.0
"""Seconds until a state that should come is given up."""


def until(condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the condition holds; fail when the process ends before, or patience does."""
    deadline = time.monotonic() + PATIENCE
    ended = 0
    while not condition():
        ended += process.poll() is not None  # looked at once more: it may hold at the very end
        assert ended < 2, f"the command ended with {process.returncode} before {what}"
        assert time.monotonic() < deadline, f"no {what} after {PATIENCE:.0f} s"
        process_wait(process, 0.02)


def process_wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def kill_everything(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 the command and all that it started, parents first, as a power cut would."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()
    _, alive = psutil.wait_procs(family[1:], timeout=30)
    assert not alive


def has(folder: Store, prefix: str, name: str) -> Callable[[], bool]:
    return lambda: any(entry.key.endswith(name) for entry in folder.list(prefix))


def test_every_step_leaves_what_the_contract_names(laptop: Laptop, calm: str) -> None:
    keys = {entry.key for entry in laptop.run_folder(calm).list()}
    for stage in ("stage1", "stage2"):
        for name in ("spec.yaml", "metrics.jsonl", WEIGHTS, "_SUCCESS"):
            assert f"{stage}/{name}" in keys
    assert {"run.json", "infer/submission.csv", "report/report.html"} <= keys
    engines = {key for key in keys if key.startswith("engine/")}
    assert len([key for key in engines if key.endswith("/engine.json")]) == 2
    assert len([key for key in keys if key.startswith("efficiency/")]) >= 2
    for rank in (0, 1):
        assert f"logs/stage1/1/{rank}.log" in keys


def test_a_line_of_metrics_has_the_names_of_the_contract(laptop: Laptop, calm: str) -> None:
    text = laptop.run_folder(calm).get("stage2/metrics.jsonl").decode()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        assert {"step", "loss", "lr", "images_per_second", "dice"} <= line.keys()
        assert list(line["dice_per_bone"]) == list(BONES)


def test_the_submission_is_fetched_and_valid(laptop: Laptop, calm: str, tmp_path: Path) -> None:
    target = tmp_path / "submission.csv"
    laptop.hbseg("fetch-submission", calm, "--to", str(target))
    dataset = open_version(open_store(laptop.data))
    images = [
        submission.Image(sample.path, sample.height, sample.width)
        for sample in dataset.samples("test")
    ]
    assert submission.validate(target, images) == []
    with target.open(newline="") as file:
        assert len(list(csv.reader(file))) == 4 * 29 + 1


def test_the_same_command_again_does_nothing(laptop: Laptop, calm: str) -> None:
    before = {entry.key for entry in laptop.run_folder(calm).list("attempts/")}
    done = laptop.hbseg(*laptop.pipeline(calm))
    assert done.stderr.count("skipped") >= 8
    assert {entry.key for entry in laptop.run_folder(calm).list("attempts/")} == before


def test_a_run_killed_in_both_stages_and_in_infer_ends_with_the_same_bytes(
    laptop: Laptop, calm: str
) -> None:
    folder = laptop.run_folder("stormy")
    kills = [
        ("stage1/checkpoints/", "state.json"),
        ("stage2/checkpoints/", "state.json"),
        ("attempts/infer/", "1.json"),
    ]
    for prefix, name in kills:
        process = subprocess.Popen(
            laptop.command(*laptop.pipeline("stormy")),
            env=laptop.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(has(folder, prefix, name), f"{prefix}...{name}", process)
        finally:
            kill_everything(process)
    laptop.hbseg(*laptop.pipeline("stormy"))
    for prefix in ("stage1", "stage2", "infer", "valid"):
        disturbed, undisturbed = laptop.marker("stormy", prefix), laptop.marker(calm, prefix)
        assert disturbed.outputs == undisturbed.outputs, prefix
        assert disturbed.digest == undisturbed.digest, prefix
    for stage in ("stage1", "stage2"):
        mine, calm_one = (left_by(laptop.run_folder(run).folder(stage)) for run in ("stormy", calm))
        assert mine == calm_one, stage
    assert folder.exists("attempts/stage1/2.json")
    assert folder.exists("attempts/stage2/2.json")
    assert folder.exists("attempts/infer/2.json")


def test_status_knows_of_every_step_that_it_is_done(laptop: Laptop, calm: str) -> None:
    done = laptop.hbseg("pipeline", "status", calm, "-o", "json")
    states = {row["prefix"]: row["state"] for row in json.loads(done.stdout)["tasks"]}
    assert {"stage1", "stage2", "infer", "valid", "report"} <= states.keys()
    assert set(states.values()) == {"done"}


def test_one_process_trains_what_two_train(laptop: Laptop, calm: str) -> None:
    """Sums of two halves differ from the whole by rounding, and batch statistics by more."""
    words = ["submit-train", "--stage", "1", "--run", "alone", "-j", "1x1", "--wait"]
    settings = [
        "model.encoder=tu-test_resnet",
        "model.decoder_channels=[16, 16, 8, 8, 8]",
        "dataset.image_size=64",
        "run.epochs=3",
        "run.global_batch_size=4",
        "run.micro_batch_size=null",
        "run.validate_every=1",
    ]
    laptop.hbseg(*words, *(word for setting in settings for word in ("--set", setting)))
    alone, together = laptop.marker("alone", "stage1"), laptop.marker(calm, "stage1")
    assert alone.spec_hash == together.spec_hash
    assert alone.metrics["loss"] == pytest.approx(together.metrics["loss"], rel=0.05)


def test_pictures_of_any_kind_get_masks_at_their_own_size(
    laptop: Laptop, calm: str, tmp_path: Path
) -> None:
    import cv2
    import numpy as np

    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (120, 90), dtype=np.uint8)
    cv2.imwrite(str(folder / "small.png"), small)
    cv2.imwrite(str(folder / "deep.png"), small.astype(np.uint16) * 200)
    cv2.imwrite(str(folder / "wide 손.jpg"), rng.integers(0, 255, (200, 700, 3), dtype=np.uint8))
    (folder / "notes.txt").write_text("not a picture")
    (folder / "cut.png").write_bytes((folder / "small.png").read_bytes()[:-300])
    laptop.hbseg("submit-infer", calm, "--images", str(folder), "--batch-size-eval", "4", "--wait")
    done = laptop.run_folder(calm)
    found = [entry.key for entry in done.list("images/") if entry.key.endswith("submission.csv")]
    assert len(found) == 1
    target = tmp_path / "images.csv"
    target.write_bytes(done.get(found[0]))
    rows = list(submission.read(target))
    assert [name for name, bone, _ in rows if bone == "Ulna"] == [
        "deep.png",
        "small.png",
        "wide 손.jpg",
    ]
    sizes = {"deep.png": (120, 90), "small.png": (120, 90), "wide 손.jpg": (200, 700)}
    for name, _, code in rows:
        rle.decode(code, sizes[name])


def test_nothing_that_was_started_is_left(laptop: Laptop, calm: str) -> None:
    mine = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any("hbseg_jobs" in word for word in process.info["cmdline"] or [])
        and laptop.environment["HBSEG_STATE"] in " ".join(process.info["cmdline"])
    ]
    assert mine == []
    assert os.listdir(laptop.raw)  # and nothing of the raw set was taken


if os.environ.get("HBSEG_TEST_RADIOGRAPHS"):  # in this file, so that they share its chain
    from tests.chain.radiographs import (
        test_every_radiograph_gets_29_masks_at_its_own_size as test_every_radiograph_gets_masks,
    )

    __all__ = ["test_every_radiograph_gets_masks"]
