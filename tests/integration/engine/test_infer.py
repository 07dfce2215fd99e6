from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from hbseg import rle, submission
from hbseg.anatomy import BONES
from hbseg.config.specs import CompileSpec, InferSpec
from hbseg.data.annotation import full_masks
from hbseg.data.dataset import open_version
from hbseg.errors import ContractError, SpecError
from hbseg.ml import infer
from hbseg.runs.results import Evaluation, FlagKind, Flags
from hbseg.runs.steps import Step
from hbseg.storage.markers import read_marker, sha256_of
from hbseg.storage.store import Store
from hbseg_jobs import infer as infer_job
from tests.engines import BATCH, picture, write_card

from .conftest import FOLD, VERSION, Chain


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "PART_IMAGES", 3)


def names_of(path: str | Path) -> list[str]:
    return list(dict.fromkeys(name for name, _, _ in submission.read(path)))


def job(chain: Chain, spec: InferSpec, prefix: str, **members: Store) -> Store:
    inputs = {"engine": chain.engine, **members}
    if spec.mode != "images":
        inputs["dataset"] = chain.version
    infer_job.work(chain.context(Step.INFER, spec, prefix, work=prefix, **inputs))
    return chain.run.folder.folder(prefix)


def test_a_submission_covers_the_test_images_in_path_order(chain: Chain) -> None:
    folder = job(chain, InferSpec(batch_size=BATCH), "infer")
    samples = open_version(chain.data, VERSION).samples("test")
    path = Path(folder.url) / "submission.csv"
    images = [submission.Image(s.path, s.height, s.width) for s in samples]
    assert len(images) == 9
    assert submission.validate(path, images) == []
    marker = read_marker(folder)
    flags = folder.get("flags.json")
    assert marker.outputs == {
        "submission.csv": sha256_of(path.read_bytes()),
        "flags.json": sha256_of(flags),
    }
    assert marker.metrics["images"] == 9
    assert marker.metrics["seconds_per_image"] > 0
    assert any(code for _, _, code in submission.read(path))


def test_what_an_attempt_left_is_taken_over_and_the_bytes_are_the_same(chain: Chain) -> None:
    spec = InferSpec(batch_size=BATCH, threshold=0.4)
    folder = job(chain, spec, "again")
    first = folder.get("submission.csv")
    keys = [entry.key for entry in folder.list("parts/")]
    identity = chain.context(
        Step.INFER, spec, "again", work="again", engine=chain.engine, dataset=chain.version
    ).task.identity()[:12]
    assert keys == [
        f"parts/{identity}/{number:05}.{kind}" for number in range(3) for kind in ("csv", "json")
    ]
    kept = {key: folder.get(key) for key in keys}
    for key in ("submission.csv", "_SUCCESS", keys[1], keys[4], keys[5]):
        folder.delete(key)  # part 0 without its record, as after kill -9; part 2 gone
    job(chain, spec, "again")
    assert folder.get("submission.csv") == first
    assert {key: folder.get(key) for key in keys} == kept


def test_validation_gives_the_figures_of_the_held_out_fold(chain: Chain) -> None:
    folder = job(chain, InferSpec(mode="valid", batch_size=BATCH), "valid")
    dataset = open_version(chain.data, VERSION)
    samples = dataset.samples("validation", FOLD)
    rows = list(csv.DictReader(folder.get("evaluation.csv").decode().splitlines()))
    assert list(rows[0]) == [
        "image_name", "class", "dice", "hd95_px", "surface_dice_1px", "surface_dice_2px",
    ]  # fmt: skip
    assert [row["class"] for row in rows] == list(BONES) * len(samples)
    codes = list(submission.read(Path(folder.url) / "submission.csv"))
    expected = []
    for number, sample in enumerate(samples):
        truth = full_masks(dataset.polygons(sample), sample.shape)
        for bone, row in enumerate(rows[29 * number : 29 * number + 29]):
            code = codes[29 * number + bone][2]
            mask = rle.decode(code, sample.shape)
            total = mask.sum() + truth[bone].sum()
            dice = (2 * (mask & truth[bone]).sum() + 1e-4) / (total + 1e-4)
            assert row["image_name"] == codes[29 * number + bone][0]
            assert float(row["dice"]) == pytest.approx(dice, abs=1e-6)
            assert [row[name] != "" for name in list(row)[3:]] == [bool(code)] * 3
            expected.append(dice)
    marker = read_marker(folder)
    assert marker.metrics["dice"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert set(marker.outputs) == {
        *("submission.csv", "evaluation.csv", "evaluation.json", "flags.json")
    }
    flags = Flags.from_text(folder.get("flags.json"), source="flags.json")
    assert (flags.images, len(flags.flagged)) == (len(samples), marker.metrics["flagged"])
    empty = {(name, bone) for name, bone, code in codes if not code}
    missing = {
        (image.image, flag.bone)
        for image in flags.flagged
        for flag in image.flags
        if flag.kind is FlagKind.MISSING
    }
    assert missing == empty
    check_summary(folder, rows, len(samples))


def check_summary(folder: Store, rows: list[dict[str, str]], images: int) -> None:
    summary = Evaluation.from_text(folder.get("evaluation.json"), source="evaluation.json")
    assert (summary.images, summary.persons) == (images, images)  # one hand each in this fold
    for of, scores in [(rows, summary.scores), (rows[::29], summary.bones[0].scores)]:
        for name in ("dice", "hd95_px", "surface_dice_2px"):
            figures = [float(row[name]) for row in of if row[name]]
            interval = getattr(scores, name)
            assert interval.mean == pytest.approx(np.mean(figures), abs=2e-6)
            assert interval.low <= interval.mean <= interval.high
    empty = [row["class"] for row in rows if not row["hd95_px"]]
    assert {bone.bone: bone.missed for bone in summary.bones} == {
        bone: empty.count(bone) for bone in BONES
    }
    assert [part.name for part in summary.slices if part.by == "side"] == ["left"]
    assert summary.dice_at_thresholds >= summary.scores.dice.mean - 1e-6


def test_the_threshold_of_a_bone_is_the_one_of_the_highest_dice(chain: Chain) -> None:
    folder = job(chain, InferSpec(mode="valid", batch_size=BATCH), "valid")
    found = Evaluation.from_text(folder.get("evaluation.json"), source="evaluation.json").thresholds
    means = {}
    for level in (0.3, 0.5, 0.7):
        spec = InferSpec(mode="valid", batch_size=BATCH, threshold=level)
        other = job(chain, spec, f"valid-{level}").get("evaluation.json")
        summary = Evaluation.from_text(other, source="evaluation.json")
        assert summary.thresholds == found  # whatever the step's own threshold is
        means[level] = [bone.scores.dice.mean for bone in summary.bones]
    best = np.argmax(list(means.values()), axis=0)
    agreeing = [
        [0.3, 0.5, 0.7][number] == level
        for number, level in zip(best, found.values(), strict=True)
        if level in means
    ]
    assert agreeing
    assert all(agreeing)


def test_a_validation_that_was_killed_ends_with_the_same_bytes(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = InferSpec(mode="valid", batch_size=BATCH, threshold=0.6)
    folder = job(chain, spec, "killed")
    keys = [entry.key for entry in folder.list() if entry.key != "_SUCCESS"]
    whole = {key: folder.get(key) for key in keys}
    parts = [key for key in keys if key.endswith(".json") and key.startswith("parts/")]
    for key in ("_SUCCESS", "evaluation.csv", "evaluation.json", parts[-1]):
        folder.delete(key)
    capsys.readouterr()
    job(chain, spec, "killed")
    assert capsys.readouterr().out.count("images in") == 1  # the first part was taken over
    assert {key: folder.get(key) for key in keys} == whole


def other_run(chain: Chain, **card: object) -> Store:
    """Return a copy of the engine in another run, with other words on its card."""
    folder = chain.runs.folder("second/engine/key")
    folder.put("model.onnx", chain.engine.get("model.onnx"))
    write_card(folder, json.loads(chain.engine.get("engine.json")) | card)
    return folder


def test_several_runs_and_mirrored_pictures_are_averaged(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    other = other_run(chain, fold=FOLD + 1)
    masks = {}
    for name, members, flip in (
        ("plain", (), False),
        ("same", (other.url,), False),
        ("flipped", (), True),
        ("both", (other.url,), True),
    ):
        spec = InferSpec(mode="valid", batch_size=BATCH, members=members, flip=flip)
        inputs = {"member1": other} if spec.members else {}
        masks[name] = job(chain, spec, name, **inputs).get("submission.csv")
        warned = "warning: member1 held out fold 2, not 1" in capsys.readouterr().out
        assert warned == bool(spec.members)

    assert masks["same"] == masks["plain"]  # the other run's engine is the same network
    assert masks["both"] == masks["flipped"]
    assert masks["flipped"] != masks["plain"]
    assert set(read_marker(chain.run.folder.folder("both")).inputs) == {
        *("dataset", "engine", "member1")
    }


def test_an_engine_of_another_run_must_be_of_the_same_kind(chain: Chain) -> None:
    other = other_run(chain, backend="eager")
    spec = InferSpec(batch_size=BATCH, members=(other.url,))
    with pytest.raises(ContractError, match="compiled for eager, asked for onnx"):
        job(chain, spec, "mixed", member1=other)


def test_any_folder_of_pictures_gives_masks_at_each_one_s_size(
    chain: Chain, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    for seed, name in enumerate(["b/one.png", "a/two.JPG", "three, with comma.tif"]):
        picture(pictures, name, seed, Path(name).suffix.lower())
    spec = InferSpec(mode="images", images=str(pictures), batch_size=BATCH)
    folder = job(chain, spec, "images")
    assert names_of(Path(folder.url) / "submission.csv") == [
        "two.JPG",
        "one.png",
        "three, with comma.tif",
    ]
    record = json.loads(folder.get("pictures.json"))
    assert record["pictures"] == [
        {"path": "a/two.JPG", "height": 61, "width": 50},
        {"path": "b/one.png", "height": 60, "width": 50},
        {"path": "three, with comma.tif", "height": 62, "width": 50},
    ]
    assert record["unreadable"] == []
    marker = read_marker(folder)
    assert set(marker.outputs) == {"submission.csv", "flags.json", "pictures.json"}
    page = folder.get("report.html")
    assert marker.records == {"report.html": sha256_of(page)}
    assert page.count(b"data:image/jpeg") == 3
    assert b"a/two.JPG" in page


def test_a_single_picture_gives_its_masks_alone(chain: Chain, tmp_path: Path) -> None:
    for seed, name in enumerate(["one.png", "two.png"]):
        picture(tmp_path, name, seed)
    spec = InferSpec(mode="images", images=str(tmp_path / "two.png"), batch_size=BATCH)
    folder = job(chain, spec, "single")
    assert names_of(Path(folder.url) / "submission.csv") == ["two.png"]
    record = json.loads(folder.get("pictures.json"))
    assert record["folder"] == str(tmp_path / "two.png")
    assert [item["path"] for item in record["pictures"]] == ["two.png"]


def test_the_step_refuses_an_engine_of_another_batch_size(chain: Chain) -> None:
    with pytest.raises(ContractError, match="batch size 4, asked for 8; run: hbseg submit-compile"):
        job(chain, InferSpec(batch_size=8), "refused")


def test_the_step_refuses_the_spec_of_another_step(chain: Chain) -> None:
    context = chain.context(Step.INFER, CompileSpec(), "wrong", work="wrong")
    with pytest.raises(SpecError, match="step infer was given CompileSpec, expected InferSpec"):
        infer_job.work(context)
