"""`hbseg submission`: what each command prints, writes and refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from hbseg import submission
from hbseg.anatomy import BONES, NUM_BONES
from hbseg.data.pictures import encode_png
from hbseg.submission import Image
from tests.unit.cli.conftest import Cli

SIZE = ("--size", "40x60")
SQUARE = " ".join(f"{60 * row + 11} 20" for row in range(10, 30))
"""20 x 20 pixels of a picture of 40 x 60."""
LOWER = " ".join(f"{60 * row + 11} 20" for row in range(20, 40))


def csv(path: str, codes: dict[str, str]) -> str:
    rows = [submission.rows(Image(name), [code] * NUM_BONES) for name, code in codes.items()]
    Path(path).write_text(submission.header() + "".join(rows))
    return path


def pictures(*paths: str) -> str:
    for path in paths:
        Path("p", path).parent.mkdir(parents=True, exist_ok=True)
        Path("p", path).write_bytes(encode_png(np.full((40, 60), 90, np.uint8)))
    return "p"


def test_a_right_csv_is_valid(cli: Cli) -> None:
    found = cli("submission", "validate", csv("s.csv", {"a.png": SQUARE}))
    assert (found.code, found.out, found.err) == (0, "", "s.csv: 1 images, every row is right\n")
    assert cli("submission", "validate", "s.csv", "-o", "name").out == "s.csv\n"


def test_a_wrong_row_is_named_with_the_file_and_the_next_step(cli: Cli) -> None:
    found = cli("submission", "validate", csv("s.csv", {"a.png": "4194304 2"}), "-o", "json")
    assert found.code == 5
    assert found.err == (
        "error: s.csv: row 2 (a.png finger-1): run 4194304 2 leaves the picture of 4194304 "
        "pixels; give --images or --size if the pictures are not 2048x2048\n"
    )
    document = found.json()
    assert (document["kind"], document["images"]) == ("SubmissionCheck", 0)
    assert len(document["problems"]) == submission.MAX_PROBLEMS + 1
    assert "s.csv" in cli("submission", "validate", "s.csv").out


def test_a_csv_must_cover_the_pictures_of_a_folder_in_their_order(cli: Cli) -> None:
    folder = pictures("1/b.png", "2/a.png")
    right = csv("right.csv", {"b.png": SQUARE, "a.png": ""})
    assert cli("submission", "validate", right, "--images", folder).code == 0

    wrong = csv("wrong.csv", {"a.png": "", "b.png": ""})
    found = cli("submission", "validate", wrong, "--images", folder)
    assert found.code == 5
    assert "wrong.csv: row 2: a.png finger-1, expected b.png finger-1" in found.err
    found = cli("submission", "validate", csv("s.csv", {"b.png": "2400 2"}), "--images", folder)
    assert "row 2 (b.png finger-1): run 2400 2 leaves the picture of 2400 pixels" in found.err
    assert found.err.endswith("; correct the row, or make the CSV again\n")


def test_two_pictures_of_one_name_and_an_unreadable_one_are_refused(cli: Cli) -> None:
    folder = pictures("1/a.png", "2/a.png")
    found = cli("submission", "validate", csv("s.csv", {"a.png": ""}), "--images", folder)
    assert found.code == 5
    assert "two pictures are called a.png: 1/a.png and 2/a.png" in found.err
    Path(folder, "2/a.png").rename(Path(folder, "b.png"))
    Path(folder, "b.png").write_bytes(b"no picture")
    found = cli("submission", "validate", "s.csv", "--images", folder)
    assert (found.code, found.err.count("\n")) == (5, 1)
    assert "b.png: not a PNG" in found.err


def test_vote_writes_the_majority_as_a_valid_csv(cli: Cli) -> None:
    paths = [csv(f"{i}.csv", {"a.png": code}) for i, code in enumerate((SQUARE, SQUARE, LOWER))]
    found = cli("submission", "vote", *paths, "--to", "out/v.csv", *SIZE, "-o", "name")
    assert (found.code, found.out) == (0, "out/v.csv\n")
    assert Path("out/v.csv").read_text() == Path("0.csv").read_text()

    heavy = cli("submission", "vote", *paths, "--to", "w.csv", *SIZE, "--weights", "1,1,3")
    assert heavy.code == 0
    assert Path("w.csv").read_text() == Path("2.csv").read_text()

    cli("submission", "vote", *paths, "--to", "t.csv", *SIZE, "--threshold", "Ulna=0")
    codes = {bone: code for _, bone, code in submission.read("t.csv")}
    assert (codes["Ulna"].count(" "), codes["Radius"]) == (59, SQUARE)


def test_diff_shows_dice_by_bone_and_by_image(cli: Cli) -> None:
    a = csv("a.csv", {"a.png": SQUARE, "b.png": SQUARE})
    b = csv("b.csv", {"a.png": SQUARE, "b.png": LOWER})

    table = cli("submission", "diff", a, b, *SIZE)
    assert table.code == 0
    assert table.err == "2 images, 1 differ, mean Dice 0.7500\n"
    lines = [line.split() for line in table.out.splitlines()]
    assert lines[0] == ["BONE", "DICE", "LOWEST", "IMAGE"]
    assert lines[29] == ["Ulna", "0.7500", "0.5000", "b.png"]
    images = cli("submission", "diff", a, b, *SIZE, "--by", "image").out.splitlines()
    assert images[2].split() == ["b.png", "0.5000", "0.5000", "finger-1"]
    assert cli("submission", "diff", a, b, *SIZE, "-o", "name").out == "b.png\n"
    document = cli("submission", "diff", a, b, *SIZE, "-o", "json").json()
    assert document["images"][1]["bones"]["Ulna"] == pytest.approx(0.5)
    assert document["dice"] == pytest.approx(0.75)
    assert "kind: SubmissionDiff" in cli("submission", "diff", a, b, *SIZE, "-o", "yaml").out


def test_show_draws_each_image_of_the_csv(cli: Cli) -> None:
    folder = pictures("1/b.png", "2/a.png", "c.png")
    found = cli("submission", "show", csv("s.csv", {"a.png": SQUARE}), "--images", folder)
    assert found.code == 0
    assert [path.name for path in Path("overlays").iterdir()] == ["a.png"]
    drawn = cv2.imread("overlays/a.png")
    assert drawn is not None
    assert drawn.shape == (40, 60, 3)
    assert np.ptp(drawn[20, 20].astype(int)) > 20  # coloured inside the mask
    assert np.ptp(drawn[2, 50].astype(int)) == 0  # gray far from it

    unknown = cli("submission", "show", csv("u.csv", {"x.png": ""}), "--images", folder)
    assert unknown.code == 5
    assert "u.csv: row 2: unknown image 'x.png': no picture of this name" in unknown.err


@pytest.mark.parametrize("kind", ["coco", "masks", "labelme"])
def test_convert_there_and_back_gives_the_same_csv(cli: Cli, kind: str) -> None:
    source = csv("s.csv", {"a.png": SQUARE, "b.png": LOWER})
    there = cli("submission", "convert", source, "--into", kind, "--to", "there", *SIZE)
    back = cli("submission", "convert", "there", "--from", kind, "--to", "back.csv")
    assert (there.code, back.code) == (0, 0)
    assert Path("back.csv").read_bytes() == Path(source).read_bytes()


REFUSED: list[tuple[Sequence[str], int, str]] = [
    (("validate", "none.csv"), 3, "none.csv: no such file"),
    (("validate", "."), 5, ".: cannot be read (Is a directory)"),
    (("validate", "s.csv", "--size", "0x9"), 5, "--size '0x9', expected HEIGHTxWIDTH"),
    (("validate", "s.csv", "--size", "9" * 5000), 5, "--size '9999"),
    (("validate", "s.csv", "--size", "99999x99999"), 5, "at most 100,000,000 in all"),
    (("validate", "s.csv", "--size", "9x9", "--images", "p"), 2, "--size does not go with"),
    (("validate", "s.csv", "--images", "none"), 3, "no pictures in"),
    (("vote", "s.csv", "--to", "v.csv"), 2, "a vote needs at least two CSVs"),
    (("vote", "s.csv", "s.csv", "--to", "v", "--weights", "1"), 5, "1 numbers, expected 2"),
    (("vote", "s.csv", "none", "--to", "v"), 3, "none: no such file"),
    (("vote", "s.csv", "t.csv", "--to", "v.csv"), 5, "t.csv: row 2: image t.png, where s.csv has"),
    (("vote", "s.csv", "s.csv", "--to", "p/a.png/v"), 4, "a file stands where a folder must be"),
    (("diff", "s.csv", "crlf.csv"), 5, "crlf.csv: row 1: ends with CR LF"),
    (("diff", "s.csv", "s.csv", "--by", "x"), 2, "--by 'x', expected bone or image"),
    (("show", "s.csv", "--images", "none"), 3, "no pictures in"),
    (("convert", "s.csv", "--to", "x"), 2, "--from and --into are both csv"),
    (("convert", "s.csv", "--to", "x", "--into", "png"), 2, "--into 'png', expected one of csv"),
    (("convert", "s.csv", "--to", "p", "--into", "masks"), 5, "p is there already and not an"),
    (("convert", "evil.csv", "--to", "x", "--into", "masks"), 5, "evil.csv: row 2: image ../a.png"),
    (("convert", "s.csv", "--from", "coco", "--to", "x.csv"), 5, "s.csv: Invalid JSON"),
    (("convert", "none", "--from", "masks", "--to", "x.csv"), 3, "none: no such folder"),
]


@pytest.mark.parametrize(("words", "code", "message"), REFUSED)
def test_what_cannot_be_done_is_told_in_one_line_and_leaves_no_file(
    cli: Cli, words: Sequence[str], code: int, message: str
) -> None:
    pictures("a.png")
    csv("s.csv", {"a.png": ""})
    csv("t.csv", {"t.png": ""})
    Path("crlf.csv").write_bytes(Path("s.csv").read_bytes().replace(b"\n", b"\r\n"))
    Path("evil.csv").write_text(submission.header() + f"../a.png,{BONES[0]},\n")
    before = sorted(Path().rglob("*"))

    found = cli("submission", *words)

    assert (found.code, found.err.count("\n")) == (code, 1)
    assert message in found.err
    assert found.err.startswith("error: ")
    assert sorted(Path().rglob("*")) == before
