from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from hbseg import submission
from hbseg.anatomy import BONES, NUM_BONES
from hbseg.submission import Image
from hbseg.submission.expected import of_one_size
from hbseg.submission.validation import Verdict, check

IMAGES = [
    Image("test/DCM/ID001/b.png", 10, 10),
    Image("test/DCM/ID002/a.png", 10, 10),
]
Lines = list[str]


def good_lines() -> Lines:
    text = submission.header() + "".join(
        submission.rows(image, ["1 2 5 1"] * NUM_BONES) for image in IMAGES
    )
    return text.splitlines(keepends=True)


def problems(path: Path, lines: Lines) -> list[str]:
    path.write_text("".join(lines), newline="")
    return submission.validate(path, IMAGES)


def test_what_is_written_is_valid_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    assert problems(path, good_lines()) == []
    rows = list(submission.read(path))
    assert [bone for _, bone, _ in rows] == [*BONES, *BONES]
    assert [name for name, _, _ in rows] == ["b.png"] * 29 + ["a.png"] * 29


def test_images_may_be_given_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("".join(good_lines()))
    assert submission.validate(path, reversed(IMAGES)) == []


def missing_row(lines: Lines) -> Lines:
    return lines[:5] + lines[6:]


def missing_end(lines: Lines) -> Lines:
    return lines[:-1]


def swapped_rows(lines: Lines) -> Lines:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


def swapped_images(lines: Lines) -> Lines:
    return [lines[0], *lines[30:], *lines[1:30]]


def extra_row(lines: Lines) -> Lines:
    return [*lines, lines[-1]]


def overlapping_run(lines: Lines) -> Lines:
    return [*lines[:7], lines[7].replace("1 2 5 1", "1 5 3 1"), *lines[8:]]


def beyond_the_picture(lines: Lines) -> Lines:
    return [*lines[:7], lines[7].replace("5 1", "99 3"), *lines[8:]]


def other_header(lines: Lines) -> Lines:
    return ["image,class,rle\n", *lines[1:]]


def fields_too_few(lines: Lines) -> Lines:
    return [*lines[:2], "b.png,finger-2\n", *lines[3:]]


def nothing(lines: Lines) -> Lines:
    return []


def image_missing(lines: Lines) -> Lines:
    return lines[:30]


def unknown_image(lines: Lines) -> Lines:
    return [*lines[:30], *(line.replace("a.png", "x.png") for line in lines[30:])]


def unknown_class(lines: Lines) -> Lines:
    return [*lines[:2], lines[2].replace("finger-2", "finger-20"), *lines[3:]]


def row_8(lines: Lines, code: str) -> Lines:
    return [*lines[:7], lines[7].replace("1 2 5 1", code), *lines[8:]]


def unsorted_runs(lines: Lines) -> Lines:
    return row_8(lines, "5 1 1 2")


def negative_number(lines: Lines) -> Lines:
    return row_8(lines, "1 2 -5 1")


def huge_number(lines: Lines) -> Lines:
    return row_8(lines, "1 " + "9" * 4000)


def large_value(lines: Lines) -> Lines:
    return row_8(lines, "1 2 5 999999999999")


def endless_row(lines: Lines) -> Lines:
    return row_8(lines, "1 1 " * 2000)


def carriage_returns(lines: Lines) -> Lines:
    return [line.replace("\n", "\r\n") for line in lines]


def byte_order_mark(lines: Lines) -> Lines:
    return ["\ufeff" + lines[0], *lines[1:]]


def nul_byte(lines: Lines) -> Lines:
    return row_8(lines, "1 2\0")


def cut_off(lines: Lines) -> Lines:
    return [*lines[:-1], lines[-1][:-3]]


def open_quote(lines: Lines) -> Lines:
    return row_8(lines, '"1 2')


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (missing_row, "row 6: b.png finger-6, expected b.png finger-5"),
        (
            missing_end,
            "row 59: missing, expected a.png Ulna; the file ends after 28 of its 29 rows",
        ),
        (swapped_rows, "row 4: b.png finger-4, expected b.png finger-3"),
        (swapped_images, "row 2: a.png finger-1, expected b.png finger-1 (a row is missing, or"),
        (image_missing, "row 31: missing, expected a.png finger-1; the file has 30 rows of 59"),
        (unknown_image, "row 31: x.png finger-1, expected a.png finger-1 (unknown image, not one"),
        (unknown_class, "row 3: b.png finger-20, expected b.png finger-2 (unknown class)"),
        (extra_row, "row 60: one too many, expected 59 rows with the header"),
        (overlapping_run, "row 8 (b.png finger-7): run 3 1 overlaps the one before it (1 5)"),
        (unsorted_runs, "row 8 (b.png finger-7): run 1 2 is out of order: it starts before 5 1"),
        (negative_number, "row 8 (b.png finger-7): not a positive number: '-5'"),
        (huge_number, "row 8 (b.png finger-7): not a positive number of 4000 digits: '9999"),
        (large_value, "row 8 (b.png finger-7): run 5 999999999999 leaves the picture of 100"),
        (endless_row, "row 8: more than 4,396 bytes, longer than any code of a picture"),
        (beyond_the_picture, "row 8 (b.png finger-7): run 99 3 leaves the picture of 100 pixels"),
        (other_header, "row 1: header is 'image,class,rle', expected 'image_name,class,rle'"),
        (fields_too_few, "row 3: 2 fields, expected 3"),
        (nothing, "row 1: header is '', expected 'image_name,class,rle'; the file is empty"),
        (carriage_returns, "row 1: ends with CR LF, expected LF"),
        (byte_order_mark, "row 1: a byte order mark, expected UTF-8 without one"),
        (nul_byte, "row 8: a NUL byte, the file is damaged"),
        (cut_off, "row 59: no line end, the file may be cut off"),
        (open_quote, "row 8: not readable as CSV: "),
    ],
)
def test_the_first_wrong_row_is_named(
    tmp_path: Path, spoil: Callable[[Lines], Lines], expected: str
) -> None:
    found = problems(tmp_path / "submission.csv", spoil(good_lines()))
    assert found
    assert found[0].startswith(expected)


def test_a_file_of_bad_rows_gives_a_limited_list(tmp_path: Path) -> None:
    lines = [line.replace("1 2 5 1", "x") for line in good_lines()]
    assert len(problems(tmp_path / "s.csv", lines)) == submission.MAX_PROBLEMS + 1


def test_a_missing_file_and_a_binary_file_are_problems_not_tracebacks(tmp_path: Path) -> None:
    assert "no such file" in submission.validate(tmp_path / "none.csv", IMAGES)[0]
    path = tmp_path / "binary.csv"
    assert "cannot be read (Is a directory)" in submission.validate(tmp_path, IMAGES)[0]
    path.write_bytes(b"\xff\xfe\x00" * 100)
    assert "not UTF-8" in submission.validate(path, IMAGES)[0]


def test_a_text_stands_for_an_image_of_the_task(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    image = Image("test/DCM/ID001/x.png")
    codes = [f"{2048 * 2048} 1"] * NUM_BONES
    path.write_text(submission.header() + submission.rows(image, codes))
    assert submission.validate(path, ["test/DCM/ID001/x.png"]) == []


def test_two_pictures_of_one_name_are_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("")
    found = submission.validate(path, ["a/x.png", "b/x.png"])
    assert found[0].startswith("two pictures are called x.png: a/x.png and b/x.png")


def test_images_that_are_not_listed_may_be_any_but_each_only_once(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("".join(good_lines()))
    assert check(path, of_one_size(10, 10)) == Verdict(2, [])

    path.write_text("".join([*good_lines(), *good_lines()[1:30]]))
    (problem,) = check(path, of_one_size(10, 10)).problems
    assert problem.startswith("row 60: image b.png again, its rows began in row 2; two images")

    path.write_text(submission.header())
    assert check(path, of_one_size()).problems == [
        "row 2: missing, the file has no images after its header"
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("", "row 2: the image has no name"), ("../a.png", "row 2: image ../a.png has a folder")],
)
def test_a_name_is_a_file_s_name(tmp_path: Path, name: str, expected: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(submission.header() + f"{name},finger-1,\n")
    assert check(path, of_one_size()).problems[0].startswith(expected)


def test_memory_does_not_grow_with_rows_nor_with_a_row_that_never_ends(tmp_path: Path) -> None:
    short, long, endless = (tmp_path / name for name in ("short.csv", "long.csv", "endless.csv"))
    for path, number in ((short, 4), (long, 80)):
        images = [Image(f"{i}.png") for i in range(number)]
        codes = [" ".join(f"{start} 1" for start in range(1, 100, 2))] * NUM_BONES
        text = "".join(submission.rows(image, codes) for image in images)
        path.write_text(submission.header() + text)
    with endless.open("w") as file:
        file.write(submission.header())
        file.truncate(1 << 28)

    least, most = peak(short), peak(long)

    assert most < least + 50_000 < long.stat().st_size / 4
    assert peak(endless) < 100_000_000


def peak(path: Path) -> int:
    """Most bytes that a check takes."""
    tracemalloc.start()
    try:
        check(path, of_one_size())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_names_with_commas_and_quotes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    image = Image('test/DCM/ID001/a,"b".png', 4, 4)
    path.write_text(submission.header() + submission.rows(image, [""] * NUM_BONES))
    assert submission.validate(path, [image]) == []
