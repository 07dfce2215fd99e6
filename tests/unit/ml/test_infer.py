from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from hbseg import rle, submission
from hbseg.anatomy import BONES
from hbseg.config.specs import InferSpec
from hbseg.data.pictures import encode_png
from hbseg.errors import ContractError, InvalidInput, NotFoundError
from hbseg.ml import infer
from hbseg.ml.engines.card import Images, Logits
from hbseg.ml.infer import Inferred, InferStep, Share
from hbseg.ml.predict import Source
from hbseg.ml.sources import MAX_LINES, folder_sources
from hbseg.runs.results import FlagKind, Flags
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import sha256_of
from tests.engines import BrightnessEngine, picture

IDENTITY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "PART_IMAGES", 3)


def run(
    folder: FolderStore,
    pictures: Path,
    engine: BrightnessEngine | None = None,
    *,
    one_piece: bool = False,
) -> tuple[Inferred, BrightnessEngine]:
    engine = engine or BrightnessEngine(2)
    work = pictures.parent / "work"
    work.mkdir(exist_ok=True)
    spec = InferSpec(mode="images", images=str(pictures), batch_size=2, one_piece=one_piece)
    step = InferStep(spec, engine, folder, work, identity=IDENTITY)
    inferred = step.run(folder_sources(FolderStore(pictures)))
    assert inferred is not None
    assert not list(work.iterdir())
    return inferred, engine


def names_of(path: str | Path) -> list[str]:
    return list(dict.fromkeys(name for name, _, _ in submission.read(path)))


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


def test_a_thin_picture_is_listed_and_the_rest_is_done(tmp_path: Path) -> None:
    picture(tmp_path / "in", "hand.png", 1)
    thin = np.zeros((8, 30_000), dtype=np.uint8)
    (tmp_path / "in" / "thin.png").write_bytes(cv2.imencode(".png", thin)[1].tobytes())
    folder = FolderStore(tmp_path / "out")
    run(folder, tmp_path / "in")
    assert names_of(tmp_path / "out" / "submission.csv") == ["hand.png"]
    (left_out,) = json.loads(folder.get("pictures.json"))["unreadable"]
    assert left_out["path"] == "thin.png"
    assert left_out["problem"].startswith("thin.png: 30000 x 8 pixels, expected a longer side")


def test_a_folder_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.png").write_bytes(b"no picture")
    folder = FolderStore(tmp_path / "out")
    with pytest.raises(InvalidInput, match=r"none of the 2 pictures in .*; the first: a\.png: not"):
        run(folder, tmp_path / "in")
    assert not folder.exists("submission.csv")


def test_an_unreadable_image_of_a_dataset_ends_the_step(tmp_path: Path) -> None:
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


def test_a_killed_step_resumes_where_it_stopped(tmp_path: Path) -> None:
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


def test_flagged_pictures_are_listed_with_the_most_severe_first(tmp_path: Path) -> None:
    pictures, folder = tmp_path / "in", FolderStore(tmp_path / "out")
    for seed in range(5):
        picture(pictures, f"{seed}.png", seed)
    blank = np.zeros((50, 50), dtype=np.uint8)  # the engine's masks of it are empty
    (pictures / "3.png").write_bytes(cv2.imencode(".png", blank)[1].tobytes())
    inferred, _ = run(folder, pictures)
    found = Flags.from_text(folder.get("flags.json"), source="flags.json")
    assert (found.images, len(found.flagged)) == (5, inferred.metrics["flagged"])
    assert found.flagged[0].image == "3.png"
    assert [flag.bone for flag in found.flagged[0].flags] == list(BONES)
    assert {flag.kind for flag in found.flagged[0].flags} == {FlagKind.MISSING}
    others = [flag.kind for image in found.flagged[1:] for flag in image.flags]
    assert FlagKind.LOW_CONFIDENCE in others
    severities = [image.severity for image in found.flagged]
    assert severities == sorted(severities, reverse=True)
    assert inferred.outputs["flags.json"] == sha256_of(folder.get("flags.json"))


@pytest.mark.parametrize("one_piece", [False, True])
def test_a_bone_in_two_parts_is_flagged_whether_both_are_kept_or_one(
    tmp_path: Path, one_piece: bool
) -> None:
    (tmp_path / "in").mkdir()
    blocks = np.zeros((200, 200), dtype=np.uint8)
    blocks[20:60, 20:60] = blocks[120:160, 130:170] = 255
    (tmp_path / "in" / "blocks.png").write_bytes(encode_png(blocks))
    folder = FolderStore(tmp_path / "out")
    run(folder, tmp_path / "in", one_piece=one_piece)
    for _, _, code in submission.read(tmp_path / "out" / "submission.csv"):
        mask = rle.decode(code, blocks.shape)
        parts = int(mask[:100].any()) + int(mask[100:].any())
        assert parts == (1 if one_piece else 2)
    (image,) = Flags.from_text(folder.get("flags.json"), source="flags.json").flagged
    split = [flag.bone for flag in image.flags if flag.kind is FlagKind.SPLIT]
    assert sorted(split) == sorted(BONES)


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
