from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from hbseg.data.picture_folder import PictureFolder, open_pictures, picture_keys
from hbseg.data.pictures import encode_png
from hbseg.errors import InvalidInput, NotFoundError
from hbseg.storage.opening import open_store
from hbseg.submission import Image
from tests.conftest import S3Place


def opened(folder: Path) -> PictureFolder:
    return PictureFolder(open_store(folder))


def test_pictures_come_in_the_order_of_their_paths_with_their_sizes(tmp_path: Path) -> None:
    for path, size in (("2/a.png", (5, 7)), ("1/z.png", (6, 6))):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(encode_png(np.zeros(size, np.uint8)))
    (tmp_path / "notes.txt").touch()
    assert list(opened(tmp_path).images()) == [Image("1/z.png", 6, 6), Image("2/a.png", 5, 7)]


def test_the_size_is_that_of_the_picture_as_a_viewer_turns_it(tmp_path: Path) -> None:
    _, encoded = cv2.imencode(".jpg", np.zeros((8, 16), np.uint8))
    jpeg = encoded.tobytes()
    quarter = b"Exif\0\0" + b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, 6, 0)
    segment = b"\xff\xe1" + struct.pack(">H", len(quarter) + 2) + quarter
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    folder = opened(tmp_path)
    assert folder.size_of("a.jpg") == folder.gray("a.jpg").shape == (16, 8)


def test_a_single_picture_is_read_alone(tmp_path: Path) -> None:
    for name, size in (("a.png", (5, 7)), ("b.png", (6, 6)), ("b.png.png", (4, 4))):
        (tmp_path / name).write_bytes(encode_png(np.zeros(size, np.uint8)))

    found = open_pictures(str(tmp_path / "b.png"))

    assert found.url == str(tmp_path / "b.png")
    assert picture_keys(found) == ["b.png"]
    assert list(PictureFolder(found).images()) == [Image("b.png", 6, 6)]
    assert [entry.size for entry in found.list()] == [(tmp_path / "b.png").stat().st_size]


def test_a_folder_is_one_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "hands.png").mkdir()
    (tmp_path / "hands.png" / "a.png").write_bytes(encode_png(np.zeros((5, 7), np.uint8)))

    assert picture_keys(open_pictures(str(tmp_path / "hands.png"))) == ["a.png"]
    assert picture_keys(open_pictures(str(tmp_path))) == ["hands.png/a.png"]


@pytest.mark.parametrize("name", ["none.png", "notes.txt", "none"])
def test_what_is_no_picture_and_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("x")

    with pytest.raises(NotFoundError, match=f"no pictures in .*/{name}; correct --images"):
        picture_keys(open_pictures(str(tmp_path / name)))


def test_a_single_picture_in_s3_is_read_alone(s3: S3Place) -> None:
    for key in ("raw/a.png", "raw/b.png", "raw/b.png.png", "top.png"):
        open_store(s3.url).put(key, key.encode())

    for key in ("raw/b.png", "top.png"):
        found = open_pictures(f"s3://{s3.bucket}/{key}")
        (name,) = picture_keys(found)
        assert (found.url, found.get(name)) == (f"s3://{s3.bucket}/{key}", key.encode())
    assert len(picture_keys(open_pictures(f"s3://{s3.bucket}/raw"))) == 3


def test_unknown_missing_and_doubled_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no pictures in"):
        opened(tmp_path)
    (tmp_path / "a.png").touch()
    with pytest.raises(InvalidInput, match=r"unknown image 'b\.png': no picture of this name in"):
        opened(tmp_path).size_of("b.png")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.png").touch()
    with pytest.raises(InvalidInput, match=r"two pictures are called a\.png"):
        opened(tmp_path)
