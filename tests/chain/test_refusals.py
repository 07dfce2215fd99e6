"""Bad input, as a person would give it: one clear line, the documented code, nothing lost."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hbseg import submission
from hbseg.anatomy import BONES
from hbseg.config.specs import CompileSpec, PrepareSpec
from hbseg.data.dataset import open_version
from hbseg.data.prepare import prepare
from hbseg.local.s3server import EmbeddedS3
from hbseg.runs.chain import chain
from hbseg.runs.run import Run
from hbseg.storage.opening import open_store
from tests.chain.laptop import Laptop, keys_of, laptop_of
from tests.integration.fakes.fake_chain import chain_specs, plant

Spoil = Callable[[Path], None]


def refusal(laptop: Laptop, code: int, *words: str, **environment: str) -> str:
    """Run a command that must be refused; return its one line on stderr."""
    done = laptop.hbseg(*words, code=code, environment=environment)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def laptop(
    s3_server: EmbeddedS3, raw_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Laptop]:
    """A machine with its own bucket and state."""
    bucket = f"refusals-{uuid.uuid4().hex[:12]}"
    s3_server.create_bucket(bucket)
    folder = tmp_path_factory.mktemp("laptop")
    with keys_of(s3_server):
        yield laptop_of(s3_server, bucket, folder=folder, state=folder / "state", raw=raw_set)
    s3_server.delete_bucket(bucket)


@pytest.fixture(scope="module")
def one_person(raw_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw set of two persons' hands, to be copied and spoilt."""
    folder = tmp_path_factory.mktemp("persons") / "set"
    for person in ("ID001", "ID002"):
        for kind in ("DCM", "outputs_json"):
            part = f"train/{kind}/{person}"
            shutil.copytree(raw_set / part, folder / part)
    return folder


@pytest.fixture(scope="module")
def finished(laptop: Laptop, raw_set: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a run with all that a chain leaves, made up but for the dataset."""
    data = open_store(laptop.data)
    version = prepare(raw_set, data, PrepareSpec()).version
    images = [submission.Image(s.path) for s in open_version(data, version).samples("test")]
    table = submission.header() + "".join(
        submission.rows(image, ["1 5"] * len(BONES)) for image in images
    )
    data.put("fake/infer/submission.csv", table.encode())
    run = Run(open_store(laptop.runs), "finished")
    run.claim(data=data.url)
    for task in chain(run, data, chain_specs(version)):
        plant(run, data, task, tmp_path_factory.mktemp("work"))
        if isinstance(task.spec, CompileSpec):
            task.folder.put(
                "engine.json", json.dumps({"batch_size": task.spec.batch_size}).encode()
            )
    return run.name


def first(folder: Path, pattern: str) -> Path:
    return sorted(folder.rglob(pattern))[0]


def cut_picture(folder: Path) -> None:
    path = first(folder, "*.png")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_annotation(folder: Path) -> None:
    path = first(folder, "*.json")
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def rename_label(folder: Path) -> None:
    path = first(folder, "*.json")
    content = json.loads(path.read_text())
    content["annotations"][0]["label"] = "Radios"
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "rule", "words"),
    [
        (cut_picture, "picture-unreadable", "cut off"),
        (cut_annotation, "annotation-unreadable", "cut off"),
        (rename_label, "class-unknown", "did you mean Radius?"),
    ],
)
def test_a_spoilt_file_is_found_named_and_never_prepared(
    laptop: Laptop, one_person: Path, tmp_path: Path, spoil: Spoil, rule: str, words: str
) -> None:
    raw = tmp_path / "set"
    shutil.copytree(one_person, raw)
    spoil(raw)
    report = json.loads(laptop.hbseg("data", "check", str(raw), "-o", "json", code=5).stdout)
    assert (report["apiVersion"], report["kind"]) == ("hbseg/v1", "CheckReport")
    found = {p["rule"]: p for p in report["problems"] if p["severity"] == "error"}
    assert found[rule]["image"].startswith("train/DCM/ID001/")
    assert words in found[rule]["message"]
    line = refusal(laptop, 5, "data", "prepare", str(raw), str(tmp_path / "data"))
    assert f"hbseg data check {raw}" in line
    assert not (tmp_path / "data").exists()


def test_an_empty_and_a_missing_folder_are_told_apart(laptop: Laptop, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in refusal(laptop, 5, "data", "check", str(empty))
    assert "no-such" in refusal(laptop, 3, "data", "check", str(tmp_path / "no-such"))


def test_wrong_keys_are_no_traceback_and_no_secret(laptop: Laptop) -> None:
    line = refusal(laptop, 4, "list", AWS_SECRET_ACCESS_KEY="very-secret-and-wrong")
    assert "AWS_ACCESS_KEY_ID" in line
    assert "very-secret" not in line


def test_a_bucket_that_is_not_there_is_named(laptop: Laptop) -> None:
    line = refusal(laptop, 3, "list", "--runs", "s3://no-such-bucket/runs")
    assert "no such bucket: no-such-bucket" in line


def test_a_server_that_is_down_is_named(laptop: Laptop, s3_server: EmbeddedS3) -> None:
    assert s3_server.pid
    line = refusal(laptop, 4, "list", AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1")
    assert "AWS_ENDPOINT_URL" in line


def test_an_unknown_key_names_the_nearest(laptop: Laptop, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("optim: {learning_rat: 1}\n")
    words = ("submit-train", "--stage", "1", "--run", "typo")
    assert "unknown key optim.learning_rat" in refusal(laptop, 5, *words, "--config", str(config))
    line = refusal(laptop, 5, *words, "--set", "dataset.image_sise=64")
    assert "did you mean image_size?" in line


def test_stage_2_without_stage_1_says_what_to_do(laptop: Laptop, finished: str) -> None:
    line = refusal(laptop, 5, "submit-train", "--stage", "2", "--run", "fresh")
    assert "run: hbseg submit-train --stage 1 --run fresh, or give --ckpt URL" in line


def test_an_engine_of_another_batch_is_refused_with_the_command(
    laptop: Laptop, finished: str
) -> None:
    line = refusal(laptop, 5, "submit-infer", finished, "--batch-size-eval", "7")
    assert "asked for 7" in line
    assert f"run: hbseg submit-compile {finished} --batch-size-eval 7" in line


def test_a_run_that_does_not_exist_is_named(laptop: Laptop) -> None:
    for words in (["status"], ["logs"], ["cancel", "-y"], ["fetch-submission"]):
        assert "nobody" in refusal(laptop, 3, words[0], "nobody", *words[1:])


def test_a_cluster_that_nobody_named_is_told_before_anything_happens(laptop: Laptop) -> None:
    words = ("submit-train", "--stage", "1", "--run", "nowhere", "--backend", "kubernetes")
    line = refusal(laptop, 4, *words, KUBECONFIG="")
    assert "kubeconfig" in line
    assert not laptop.run_folder("nowhere").exists("run.json")


def missing_row(lines: list[str]) -> list[str]:
    return lines[:40] + lines[41:]


def wrong_order(lines: list[str]) -> list[str]:
    return [*lines[:40], lines[41], lines[40], *lines[42:]]


def overlapping_run(lines: list[str]) -> list[str]:
    name, bone, _ = lines[40].split(",")
    return [*lines[:40], f"{name},{bone},5 3 6 1\n", *lines[41:]]


@pytest.mark.parametrize("spoil", [missing_row, wrong_order, overlapping_run])
def test_a_wrong_csv_is_not_brought_home(
    laptop: Laptop, finished: str, tmp_path: Path, spoil: Callable[[list[str]], list[str]]
) -> None:
    folder = laptop.run_folder(finished)
    good = folder.get("infer/submission.csv")
    target = tmp_path / "submission.csv"
    target.write_text("what was there before")
    folder.put("infer/submission.csv", "".join(spoil(good.decode().splitlines(True))).encode())
    try:
        line = refusal(laptop, 5, "fetch-submission", finished, "--to", str(target))
    finally:
        folder.put("infer/submission.csv", good)
    assert "row 41" in line
    assert target.read_text() == "what was there before"
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]
