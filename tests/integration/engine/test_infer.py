from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from hbseg import rle, submission
from hbseg.anatomy import BONES
from hbseg.config.specs import CompileSpec, InferSpec
from hbseg.data.annotation import full_masks
from hbseg.data.dataset import open_version
from hbseg.errors import ContractError, InvalidInput, NotFoundError, SpecError
from hbseg.ml import infer
from hbseg.ml.engines.card import Images, Logits
from hbseg.ml.infer import Inferred, InferStep, Share
from hbseg.ml.predict import Source
from hbseg.ml.sources import MAX_LINES, check_names, folder_sources
from hbseg.runs.steps import Step
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import read_marker, sha256_of
from hbseg.storage.store import Store
from hbseg_jobs import infer as infer_job

from .conftest import BATCH, FOLD, VERSION, BrightnessEngine, Chain, grey

IDENTITY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "PART_IMAGES", 3)


def picture(folder: Path, name: str, seed: int, suffix: str = ".png") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(suffix, grey(seed, 60 + seed, 50))
    assert done
    path.write_bytes(data.tobytes())


def run(
    folder: FolderStore, pictures: Path, engine: BrightnessEngine | None = None
) -> tuple[Inferred, BrightnessEngine]:
    engine = engine or BrightnessEngine(2)
    work = pictures.parent / "work"
    work.mkdir(exist_ok=True)
    spec = InferSpec(mode="images", images=str(pictures), batch_size=2)
    step = InferStep(spec, engine, folder, work, identity=IDENTITY)
    inferred = step.run(folder_sources(FolderStore(pictures)))
    assert inferred is not None
    assert not list(work.iterdir())
    return inferred, engine


def names_of(path: str | Path) -> list[str]:
    return list(dict.fromkeys(name for name, _, _ in submission.read(path)))


def job(chain: Chain, spec: InferSpec, prefix: str) -> Store:
    inputs = {"engine": chain.engine}
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
    assert marker.outputs == {"submission.csv": sha256_of(path.read_bytes())}
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


def test_validation_gives_the_dice_of_the_held_out_fold(chain: Chain) -> None:
    folder = job(chain, InferSpec(mode="valid", batch_size=BATCH), "valid")
    dataset = open_version(chain.data, VERSION)
    samples = dataset.samples("validation", FOLD)
    rows = list(csv.DictReader(folder.get("dice.csv").decode().splitlines()))
    assert [row["class"] for row in rows] == list(BONES) * len(samples)
    codes = list(submission.read(Path(folder.url) / "submission.csv"))
    expected = []
    for number, sample in enumerate(samples):
        truth = full_masks(dataset.polygons(sample), sample.shape)
        for bone, row in enumerate(rows[29 * number : 29 * number + 29]):
            mask = rle.decode(codes[29 * number + bone][2], sample.shape)
            total = mask.sum() + truth[bone].sum()
            dice = (2 * (mask & truth[bone]).sum() + 1e-4) / (total + 1e-4)
            assert row["image_name"] == codes[29 * number + bone][0]
            assert float(row["dice"]) == pytest.approx(dice, abs=1e-6)
            expected.append(dice)
    marker = read_marker(folder)
    assert marker.metrics["dice"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert set(marker.outputs) == {"submission.csv", "dice.csv"}


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
    assert set(read_marker(folder).outputs) == {"submission.csv", "pictures.json"}


def test_what_is_no_picture_is_skipped_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "in", "hand.png", 1)
    for name in ("notes.txt", "sub/._hand.png", "hand.png.json"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("x")
    sources = folder_sources(FolderStore(tmp_path / "in"))
    assert [source.path for source in sources] == ["hand.png"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("skipped notes.txt: not a picture (.png, .jpg")


def test_many_skipped_files_make_few_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path, "hand.png", 1)
    for number in range(MAX_LINES + 5):
        (tmp_path / f"{number}.txt").write_text("x")
    folder_sources(FolderStore(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[MAX_LINES:] == ["skipped 5 more files that are no pictures"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no pictures in .*/none; expected \.png, \.jpg"):
        folder_sources(FolderStore(tmp_path / "none"))


def test_unreadable_pictures_are_listed_and_the_rest_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(5):
        picture(tmp_path / "in", f"{seed}.png", seed)
    whole = (tmp_path / "in" / "3.png").read_bytes()
    (tmp_path / "in" / "3.png").write_bytes(whole[:-30])
    (tmp_path / "in" / "1.png").write_bytes(b"")
    folder = FolderStore(tmp_path / "out")
    inferred, engine = run(folder, tmp_path / "in")
    assert inferred.metrics["images"] == 3
    assert inferred.metrics["unreadable"] == 2
    assert names_of(tmp_path / "out" / "submission.csv") == ["0.png", "2.png", "4.png"]
    record = json.loads(folder.get("pictures.json"))
    assert [item["path"] for item in record["unreadable"]] == ["1.png", "3.png"]
    assert all(item["problem"] for item in record["unreadable"])
    assert "left out 1.png: 1.png: the file is empty" in capsys.readouterr().out
    again, engine = run(folder, tmp_path / "in")
    assert engine.batches == []
    assert again.outputs == inferred.outputs


def test_a_folder_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.png").write_bytes(b"no picture")
    folder = FolderStore(tmp_path / "out")
    with pytest.raises(InvalidInput, match=r"none of the 2 pictures in .*; the first: a\.png: not"):
        run(folder, tmp_path / "in")
    assert not folder.exists("submission.csv")


def test_an_unreadable_image_of_a_dataset_ends_the_step(chain: Chain, tmp_path: Path) -> None:
    def load() -> Images:
        raise ContractError("shard is damaged")

    step = InferStep(
        InferSpec(), BrightnessEngine(2), FolderStore(tmp_path), tmp_path, identity=IDENTITY
    )
    with pytest.raises(ContractError, match="shard is damaged"):
        step.run([Source("a.png", load)])


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    for seed, name in enumerate(["x/hand.png", "y/hand.png"]):
        picture(tmp_path / "in", name, seed)
    folder = FolderStore(tmp_path / "out")
    with pytest.raises(InvalidInput) as raised:
        run(folder, tmp_path / "in")
    assert str(raised.value) == (
        "two pictures are called hand.png: x/hand.png and y/hand.png; "
        "the CSV names pictures without folder: rename one, or take one folder at a time"
    )
    assert not list(folder.list())
    check_names(paths("a/x.png", "a/y.png"))


def paths(*names: str) -> Sequence[Source]:
    return [Source(name, lambda: grey(0)) for name in names]


def test_only_parts_whose_pictures_changed_are_made_again(tmp_path: Path) -> None:
    pictures, folder = tmp_path / "in", FolderStore(tmp_path / "out")
    for seed in range(10):
        picture(pictures, f"{seed}.png", seed)
    _, engine = run(folder, pictures)
    assert engine.batches == [2] * 5
    picture(pictures, "5.png", 77)
    second, engine = run(folder, pictures)
    assert engine.batches == [2, 2]
    fresh, _ = run(FolderStore(tmp_path / "fresh"), pictures)
    assert second.outputs == fresh.outputs


class Killed(BaseException):
    pass


class DyingEngine(BrightnessEngine):
    def logits(self, images_bhw: Images) -> Logits:
        if len(self.batches) == 3:
            raise Killed
        return super().logits(images_bhw)


def test_a_killed_step_goes_on_where_it_was(tmp_path: Path) -> None:
    pictures, folder = tmp_path / "in", FolderStore(tmp_path / "out")
    for seed in range(10):
        picture(pictures, f"{seed}.png", seed)
    with pytest.raises(Killed):
        run(folder, pictures, DyingEngine(2))
    assert [entry.key[-9:] for entry in folder.list("parts/")] == ["00000.csv", "0000.json"]
    resumed, engine = run(folder, pictures)
    assert engine.batches == [2, 2, 2]
    fresh, _ = run(FolderStore(tmp_path / "fresh"), pictures)
    assert resumed.outputs == fresh.outputs


def test_a_part_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    pictures, folder = tmp_path / "in", FolderStore(tmp_path / "out")
    for seed in range(5):
        picture(pictures, f"{seed}.png", seed)
    first, _ = run(folder, pictures)
    key = f"parts/{IDENTITY[:12]}/00000.csv"
    folder.put(key, folder.get(key)[:-5])
    again, engine = run(folder, pictures)
    assert engine.batches == [2, 2]
    assert again.outputs == first.outputs


def test_parts_that_make_no_valid_submission_are_refused(tmp_path: Path) -> None:
    pictures, folder = tmp_path / "in", FolderStore(tmp_path / "out")
    picture(pictures, "0.png", 0)
    run(folder, pictures)
    folder.delete("submission.csv")
    key = f"parts/{IDENTITY[:12]}/00000"
    rows = folder.get(f"{key}.csv").replace(b"finger-2,", b"finger-1,")
    record = json.loads(folder.get(f"{key}.json")) | {"csv_sha256": sha256_of(rows)}
    folder.put(f"{key}.csv", rows)
    folder.put(f"{key}.json", json.dumps(record).encode())
    with pytest.raises(ContractError, match=r"make no valid submission: row 3: .*; delete them"):
        run(folder, pictures)
    assert not folder.exists("submission.csv")


def test_the_step_refuses_an_engine_of_another_batch_size(chain: Chain) -> None:
    with pytest.raises(ContractError, match="batch size 4, asked for 8; run: hbseg submit-compile"):
        job(chain, InferSpec(batch_size=8), "refused")


def test_the_step_refuses_the_spec_of_another_step(chain: Chain) -> None:
    context = chain.context(Step.INFER, CompileSpec(), "wrong", work="wrong")
    with pytest.raises(SpecError, match="step infer was given a CompileSpec, expected an InferSp"):
        infer_job.work(context)


def test_inference_does_not_need_torch() -> None:
    code = "import sys, hbseg_jobs.infer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parts_of_another_identity_are_removed_at_the_end(tmp_path: Path) -> None:
    pictures, folder = tmp_path / "in", FolderStore(tmp_path / "out")
    picture(pictures, "0.png", 0)
    folder.put("parts/fedcba987654/00000.csv", b"old")
    folder.put("parts/fedcba987654/00000.json", b"old")
    run(folder, pictures)
    assert [entry.key for entry in folder.list("parts/")] == [
        f"parts/{IDENTITY[:12]}/00000.csv",
        f"parts/{IDENTITY[:12]}/00000.json",
    ]


def test_nodes_share_the_parts_and_the_last_one_merges_them(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    for seed in range(10):  # 3 parts of 4 pictures
        picture(pictures, f"{seed}.png", seed)
    alone, _ = run(FolderStore(tmp_path / "alone"), pictures)
    folder, spec = FolderStore(tmp_path / "shared"), InferSpec(mode="images", images=str(pictures))
    sources = folder_sources(FolderStore(pictures))
    results, calls = [], []
    for index in (1, 0, 1):  # node 1 again, as after a restart: it finds all parts
        engine = BrightnessEngine(2)
        step = InferStep(spec, engine, folder, tmp_path, identity=IDENTITY)
        results.append(step.run(sources, Share(index, 2)))
        calls.append(len(engine.batches))

    assert results[0] is None
    assert results[1] is not None
    assert results[2] is not None
    assert results[1].outputs["submission.csv"] == alone.outputs["submission.csv"]
    assert results[2].outputs == results[1].outputs
    assert calls == [2, 3, 0]  # batches of 2
