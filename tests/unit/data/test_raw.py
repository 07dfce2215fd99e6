from __future__ import annotations

from pathlib import Path

import pytest

from hbseg.data.raw import missing_pictures, scan, sides
from hbseg.errors import InvalidInput, NotFoundError


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_a_scan_finds_pictures_annotations_persons_and_sides(raw_set: Path) -> None:
    images = scan(raw_set)
    assert len(images) == 10
    assert [image.path for image in images] == sorted(image.path for image in images)
    assert [image.side for image in images if image.split == "train"] == ["R", "L"] * 4
    assert all((raw_set / i.annotation).is_file() for i in images if i.annotation)
    assert {i.annotation for i in images if i.split == "test"} == {None}
    assert {i.person for i in images} == {"ID001", "ID002", "ID003", "ID004", "ID005"}


def test_a_stated_side_wins_over_time() -> None:
    assert sides(["image200_R.png", "image100_L.png"]) == {
        "image100_L.png": "L",
        "image200_R.png": "R",
    }


def test_without_a_stated_side_the_first_by_time_is_the_right_hand() -> None:
    assert sides(["image1000.png", "image999.png"]) == {"image999.png": "R", "image1000.png": "L"}


def test_one_stated_side_decides_for_the_other_hand() -> None:
    assert sides(["image1.png", "image2_R.png"]) == {"image1.png": "L", "image2_R.png": "R"}


def test_spaces_and_korean_letters_are_names_like_others(tmp_path: Path) -> None:
    touch(tmp_path, "train/DCM/김 철수/사진 1.png", "train/outputs_json/김 철수/사진 1.json")
    (image,) = scan(tmp_path)
    assert image.person == "김 철수"
    assert image.annotation == "train/outputs_json/김 철수/사진 1.json"


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b[2J.png", "a\u2028b.png", "a\udcff.png"])
def test_names_with_control_characters_are_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"train/DCM/ID001/{name}")
    with pytest.raises(InvalidInput, match="control characters") as caught:
        scan(tmp_path)
    assert str(caught.value).isprintable()


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "test/DCM/ID1/._a.png", "test/DCM/ID1/Thumbs.db", "test/DCM/ID1/a.PNG")
    touch(tmp_path, "test/DCM/.git/b.png", "test/DCM/readme.png")
    assert [image.path for image in scan(tmp_path)] == ["test/DCM/ID1/a.PNG"]


def test_a_missing_root_is_not_found_and_says_what_next(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no raw folder .*hbseg data synth"):
        scan(tmp_path / "none")


def test_another_layout_is_refused_with_the_expected_one(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png")
    with pytest.raises(InvalidInput, match="expected train/DCM/<person>"):
        scan(tmp_path)


def test_annotations_without_picture_are_named_by_the_picture(tmp_path: Path) -> None:
    touch(tmp_path, "train/DCM/ID1/a.png", "train/outputs_json/ID1/a.json")
    touch(tmp_path, "train/outputs_json/ID1/b.json", "train/outputs_json/I{}2/c.json")
    found = missing_pictures(tmp_path, scan(tmp_path))
    assert found == ["train/DCM/ID1/b.png", "train/DCM/I{}2/c.png"]


def test_a_link_that_leads_to_itself_is_refused_by_the_folder_it_lies_in(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "DCM"
    folder.mkdir(parents=True)
    (folder / "ID001").symlink_to("ID001")
    with pytest.raises(InvalidInput, match="cannot be listed"):
        scan(tmp_path)
