from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from hbseg.data.picture_folder import PictureFolder
from hbseg.data.pictures import encode_png
from hbseg.errors import InvalidInput, NotFoundError
from hbseg.storage.opening import open_store
from hbseg.submission import Image


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
