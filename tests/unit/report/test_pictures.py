"""The report of pictures without truth, from a real CSV."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hbseg import submission
from hbseg.anatomy import BONES
from hbseg.errors import InvalidInput
from hbseg.report import hands, pictures
from hbseg.report.pictures import build_pictures_report, flagged_first
from hbseg.runs.results import Flags, PictureRecord, Pictures, UnreadableRecord
from tests.unit.report.conftest import flags

SIDE = 40
GRAY = np.full((SIDE, SIDE), 80, dtype=np.uint8)


class Folder:
    """Pictures and their CSV; it knows which ones were loaded."""

    def __init__(
        self, place: Path, count: int, gray: NDArray[np.uint8] = GRAY, unreadable: int = 0
    ) -> None:
        self.csv = place / "submission.csv"
        self.loaded: list[str] = []
        self.gray = gray
        records = [
            PictureRecord(path=f"in/{n:03}.png", height=SIDE, width=SIDE) for n in range(count)
        ]
        broken = [
            UnreadableRecord(path=f"x/{n}.png", problem=f"x/{n}.png: the file is empty")
            for n in range(unreadable)
        ]
        self.pictures = Pictures(folder="s3://a/in", pictures=records, unreadable=broken)
        codes = ["1 5" if bone != "Ulna" else "" for bone in BONES]
        images = [submission.Image(record.path, SIDE, SIDE) for record in records]
        rows = (submission.rows(image, codes) for image in images)
        self.csv.write_text(submission.header() + "".join(rows))

    def load(self, path: str) -> NDArray[np.uint8]:
        self.loaded.append(path)
        return self.gray

    def page(self, found: Flags | None = None) -> str:
        return build_pictures_report(self.pictures, self.csv, self.load, found).decode()


def shown(page: str) -> list[str]:
    return re.findall(r"<p><b>in/(\d+)\.png</b>", page)


def test_flagged_pictures_come_first_and_the_others_by_path(tmp_path: Path) -> None:
    folder = Folder(tmp_path, 4)
    page = folder.page(flags("002.png", "gone.png", "001.png"))
    assert shown(page) == ["002", "001", "000", "003"]
    assert "3 of 12 images have a flag." in page
    assert page.count("Pisiform: the mask is empty") == 3 + 2  # in the table, and below pictures
    assert "flagged ones first" in page


def test_without_flags_all_pictures_are_shown_by_path(tmp_path: Path) -> None:
    page = Folder(tmp_path, 3).page()
    assert shown(page) == ["000", "001", "002"]
    assert "flagged" not in page.lower().replace("flagged { ", "")
    assert "are not shown" not in page


def test_missing_bones_and_unreadable_pictures_are_listed_with_the_reason(tmp_path: Path) -> None:
    page = Folder(tmp_path, 2, unreadable=pictures.MAX_UNREADABLE + 3).page()
    assert re.search(r"<th scope=\"row\">Ulna</th>\s*<td>2</td>", page)
    assert "x/0.png: the file is empty" in page
    assert "Left out; 3 more are in pictures.json" in page


def test_what_does_not_fit_into_a_page_is_not_shown_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 150_000
    monkeypatch.setattr(hands, "PAGE_BYTES", room)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    folder = Folder(tmp_path, 30, noise)
    page = folder.page(flags("029.png"))
    left = 30 - len(shown(page))
    assert 0 < left < 29
    assert shown(page)[:2] == ["029", "000"]
    assert f"{left} of 30 pictures are not shown: a report has at most 15 MB" in page
    assert f"with masks; {30 - left} are shown here" in page
    empty = Folder(tmp_path, 1).page()
    assert len(page) - len(empty) < room


def test_no_more_pictures_are_loaded_than_may_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_HANDS", 2)
    folder = Folder(tmp_path, 5)
    page = folder.page(flags("004.png"))
    assert folder.loaded == ["in/000.png", "in/004.png"]
    assert shown(page) == ["004", "000"]
    assert "3 of 5 pictures are not shown" in page


def test_pictures_stand_under_headings_that_the_top_of_the_page_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "GROUP_HANDS", 2)
    page = Folder(tmp_path, 3).page()
    assert '<a href="#page-2">Pictures 3 to 3 of 3</a>' in page
    assert '<h3 id="page-2">Pictures 3 to 3 of 3</h3>' in page


def test_equal_pictures_give_equal_bytes(tmp_path: Path) -> None:
    folder = Folder(tmp_path, 3, unreadable=1)
    assert folder.page(flags("001.png")) == folder.page(flags("001.png"))


def test_a_picture_that_has_changed_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path, 1)
    folder.gray = GRAY[:-1]
    with pytest.raises(InvalidInput, match=r"in/000\.png has 40 x 39 pixels, its masks are for"):
        folder.page()


def test_memory_does_not_grow_with_pictures_that_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_HANDS", 2)

    def peak(count: int) -> int:
        folder = Folder(tmp_path, count)
        folder.page()
        tracemalloc.start()
        folder.page()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(300) < peak(10) + 300 * 4_000  # a record, a name and a row's number of each


def test_names_that_no_picture_has_are_passed_over() -> None:
    assert flagged_first(["a", "b", "c"], ["c", "x"]) == ["c", "a", "b"]


def test_the_work_of_putting_flagged_names_first_grows_with_the_names_only() -> None:
    class Name(str):
        hashed = 0

        def __hash__(self) -> int:
            Name.hashed += 1
            return super().__hash__()

    names = [Name(number) for number in range(300)]
    assert flagged_first(names, names[::-1]) == names[::-1]
    assert Name.hashed <= 10 * len(names)
