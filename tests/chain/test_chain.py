"""The whole chain: real pictures, real S3, real torchrun with two processes.

A small demo runs first, alone in its folder. The command line goes on from what it left there, on
its server, and makes the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hbseg import rle, submission
from hbseg.anatomy import BONES
from hbseg.data.dataset import open_version
from hbseg.demo import BUCKET, RUN, _alone_in
from hbseg.errors import ConflictError
from hbseg.local.s3server import EmbeddedS3
from hbseg.ml.checkpoint import WEIGHTS
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.chain.laptop import Laptop, keys_of, laptop_of
from tests.integration.conftest import processes_of
from tests.integration.conftest import until as until_state
from tests.small import CHAIN, HANDS, TEST_HANDS
from tests.trainings import left_by

OTHER_SETTINGS = ("AWS_PROFILE", "HBSEG_BACKEND", "HBSEG_STATE", "HBSEG_DATA", "HBSEG_RUNS")
PROGRAM = Path(__file__).with_name("small_demo.py")
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


def start_demo(folder: Path, *pictures: str) -> subprocess.Popen[str]:
    """Start the small demo; settings of the person at the keyboard must not matter to it."""
    config = folder.with_name("demo.yaml")
    config.write_text(CHAIN)
    return subprocess.Popen(
        [sys.executable, PROGRAM, folder, config, str(HANDS), str(TEST_HANDS), *pictures],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            **dict.fromkeys(OTHER_SETTINGS, "none"),
            "HTTP_PROXY": "http://127.0.0.1:9",
        },
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Return all that a program said that must end well."""
    with process:
        output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    return output


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a demo that ended without a disturbance."""
    folder = tmp_path_factory.mktemp("demo") / "한 demo"
    result = json.loads(finish(start_demo(folder)).rpartition("RESULT ")[2])
    assert 0 <= result["dice"] <= 1
    assert result["bones"] == len(BONES)
    return folder


@pytest.fixture(scope="module")
def laptop(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """The demo's machine, its S3 server started again; the tests of the demo itself come before."""
    home = tmp_path_factory.mktemp("home")
    with _alone_in(demo), EmbeddedS3(demo / "s3") as server, keys_of(server):
        yield laptop_of(server, BUCKET, folder=home, state=demo / "state", raw=demo / "raw")


@pytest.fixture(scope="module")
def calm() -> str:
    """Name of the demo's run."""
    return RUN


def test_a_demo_leaves_submission_and_report_and_no_process(demo: Path) -> None:
    rows = (demo / "submission.csv").read_text().count("\n")
    assert rows == TEST_HANDS * len(BONES) + 1
    assert "<html" in (demo / "report.html").read_text()[:500]
    assert not processes_of(demo)


def test_the_same_demo_skips_all_and_draws_the_users_pictures(demo: Path, tmp_path: Path) -> None:
    pictures = sorted((demo / "raw" / "test").rglob("*.png"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "왼 손.png").write_bytes(pictures[0].read_bytes())
    before = digest(demo / "submission.csv")

    output = finish(start_demo(demo, str(tmp_path / "mine")))

    happened = [line.split() for line in output.splitlines()]
    assert [words[1].partition("/")[0] for words in happened if words[0] == "started"] == ["images"]
    assert sum(words[0] == "skipped" for words in happened) == 7
    assert digest(demo / "submission.csv") == before
    assert (demo / "images.csv").read_text().count("\n") == len(BONES) + 1
    assert [path.name for path in (demo / "overlays").iterdir()] == ["왼 손.png"]
    assert (demo / "images.flags.json").exists()
    assert "<b>왼 손.png</b>" in (demo / "images.html").read_text()


def test_a_second_demo_in_the_folder_is_refused(tmp_path: Path) -> None:
    with (
        _alone_in(tmp_path),
        pytest.raises(ConflictError, match="another demo"),
        _alone_in(tmp_path),
    ):
        pass


@pytest.mark.slow  # kills of a whole chain are below; this adds those of the demo itself
def test_a_demo_that_is_ended_leaves_no_process_and_goes_on_to_the_same_csv(
    demo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "demo"
    ends = {"started stage1": signal.SIGKILL, "started stage2": signal.SIGINT}
    for line, signum in ends.items():
        with start_demo(folder) as process:
            assert process.stdout is not None
            assert any(line in said for said in process.stdout)
            process.send_signal(signum)
            process.communicate(timeout=120)
        assert process.returncode != 0
        until_state(lambda: not processes_of(folder), "all processes end")

    finish(start_demo(folder))

    assert digest(folder / "submission.csv") == digest(demo / "submission.csv")


def test_every_step_leaves_what_the_contract_names(laptop: Laptop, calm: str) -> None:
    keys = {entry.key for entry in laptop.run_folder(calm).list()}
    for stage in ("stage1", "stage2"):
        for name in ("spec.yaml", "metrics.jsonl", WEIGHTS, "_SUCCESS"):
            assert f"{stage}/{name}" in keys
    assert {"run.json", "infer/submission.csv", "report/report.html"} <= keys
    engines = {key for key in keys if key.startswith("engine/")}
    assert len([key for key in engines if key.endswith("/engine.json")]) == 1
    assert len([key for key in keys if key.startswith("efficiency/")]) >= 2


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
        assert len(list(csv.reader(file))) == TEST_HANDS * len(BONES) + 1


def test_the_same_command_again_does_nothing(laptop: Laptop, calm: str) -> None:
    before = {entry.key for entry in laptop.run_folder(calm).list("attempts/")}
    done = laptop.hbseg(*laptop.pipeline(calm))
    assert done.stderr.startswith("prepare                  unchanged")
    assert done.stderr.count("skipped") == 7
    assert {entry.key for entry in laptop.run_folder(calm).list("attempts/")} == before


def test_a_run_killed_in_both_stages_and_in_infer_ends_with_the_same_bytes(
    laptop: Laptop, calm: str
) -> None:
    folder = laptop.run_folder("stormy")
    environment = {**laptop.environment, "HBSEG_DATA": f"{laptop.data}-stormy"}  # prepared anew
    kills = [
        ("stage1/checkpoints/", "state.json"),
        ("stage2/checkpoints/", "state.json"),
        ("attempts/infer/", "1.json"),
    ]
    for prefix, name in kills:
        process = subprocess.Popen(
            laptop.command(*laptop.pipeline("stormy")),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(has(folder, prefix, name), f"{prefix}...{name}", process)
        finally:
            kill_everything(process)
    laptop.hbseg(*laptop.pipeline("stormy"), environment=environment)
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
        "run.precision=fp32",
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
    done = laptop.run_folder(calm)
    before = {entry.key for entry in done.list("images/")}
    told = laptop.hbseg(
        *("submit-infer", calm, "--images", str(folder), "--batch-size-eval", "4", "--wait")
    ).stderr
    made = {entry.key for entry in done.list("images/")} - before
    (page,) = (key for key in made if key.endswith("report.html"))
    assert f"report: {done.url}/{page}\n" in told
    assert "cut.png" in done.get(page).decode()
    (found,) = (key for key in made if key.endswith("submission.csv"))
    target = tmp_path / "images.csv"
    target.write_bytes(done.get(found))
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
