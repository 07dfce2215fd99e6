from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hbseg import rle
from hbseg.anatomy import BONES, INDEX, NUM_BONES
from hbseg.data.picture_folder import PictureFolder
from hbseg.data.pictures import encode_png
from hbseg.errors import ConflictError, InvalidInput, NotFoundError
from hbseg.exchange.convert import Format, read, write
from hbseg.storage.opening import open_store
from hbseg.submission import Image
from hbseg.submission.expected import of_one_size
from hbseg.submission.scanning import Hand

Mask = NDArray[np.bool_]
OTHERS = (Format.COCO, Format.MASKS, Format.LABELME)
MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: st.lists(arrays(np.bool_, shape), min_size=1, max_size=4)
)


def hand(masks: list[Mask], name: str = "a.png") -> Hand:
    """A hand whose first bones have these masks and whose others have none."""
    height, width = masks[0].shape
    empty = [np.zeros((height, width), dtype=bool)] * (NUM_BONES - len(masks))
    return Hand(Image(name, height, width), [rle.runs_of(mask) for mask in [*masks, *empty]])


def disc(height: int = 40, width: int = 30) -> Mask:
    y, x = np.mgrid[:height, :width]
    return np.asarray((y - height / 2) ** 2 + (x - width / 2) ** 2 < 100)


def path_for(kind: Format, folder: Path) -> Path:
    ending = {Format.CSV: ".csv", Format.COCO: ".json"}.get(kind, "")
    return folder / f"{kind}{ending}"


def hands_of(kind: Format, path: Path, size: tuple[int, int] = (40, 30)) -> list[Hand]:
    return list(read(kind, path, of_one_size(*size), None))


def same(found: list[Hand], expected: list[Hand]) -> bool:
    return len(found) == len(expected) and all(
        one.image == other.image and all(map(np.array_equal, one.runs, other.runs))
        for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("kind", list(Format))
@given(masks=MASKS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_masks_of_any_shape_survive_the_way_there_and_back(
    tmp_path_factory: pytest.TempPathFactory, kind: Format, masks: list[Mask]
) -> None:
    path = path_for(kind, tmp_path_factory.mktemp("way"))
    hands = [hand(masks), hand(masks[::-1], "b.png")]

    write(kind, hands, path)

    assert same(hands_of(kind, path, masks[0].shape), hands)


@pytest.mark.parametrize("first", OTHERS)
@pytest.mark.parametrize("second", OTHERS)
def test_every_format_becomes_every_other(tmp_path: Path, first: Format, second: Format) -> None:
    hands = [hand([disc(), ~disc()]), hand([disc()], "b.jpg")]
    start, end = (path_for(kind, tmp_path / place) for kind, place in ((first, "1"), (second, "2")))

    write(first, hands, start)
    write(second, hands_of(first, start), end)

    assert same(hands_of(second, end), hands)


def test_coco_counts_along_columns_from_zeros_and_knows_area_and_box(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], dtype=bool)
    write(Format.COCO, [hand([mask])], tmp_path / "c.json")
    coco = json.loads((tmp_path / "c.json").read_text())

    assert coco["images"] == [{"id": 1, "file_name": "a.png", "height": 2, "width": 3}]
    assert [item["name"] for item in coco["categories"]] == list(BONES)
    (only,) = coco["annotations"]
    assert only["segmentation"] == {"size": [2, 3], "counts": [2, 3, 1]}
    assert (only["area"], only["bbox"], only["category_id"]) == (3, [1, 0, 2, 2], 1)


def coco_file(path: Path, *segmentations: object, height: int = 7, width: int = 9) -> Path:
    entries = [{"image_id": 5, "category_id": 8, "segmentation": each} for each in segmentations]
    image = {"id": 5, "file_name": "folder\\a.png", "height": height, "width": width}
    content = {"images": [image], "categories": [{"id": 8, "name": "Ulna"}], "annotations": entries}
    path.write_text(json.dumps(content))
    return path


def ulna(path: Path) -> Mask:
    (found,) = hands_of(Format.COCO, path)
    assert found.image.name == "a.png"
    size = (found.image.height, found.image.width)
    return rle.decode(rle.to_text(found.runs[INDEX["Ulna"]]), size)


def test_compressed_run_lengths_are_those_of_pycocotools(tmp_path: Path) -> None:
    """Both texts are what pycocotools 2.0.11 makes of these masks."""
    small = np.zeros((7, 9), dtype=bool)
    small[1:5, 2:6] = small[0, 8] = small[6, 0] = True
    large = np.zeros((60, 50), dtype=bool)
    large[10:50, 5:45] = True
    large[20:30, 20:30] = False
    large[0, 0] = large[59, 49] = True
    code = "01e9W1oF" + "0" * 28 + "ROF" + "::FF" * 9 + "::d" + "0" * 29 + "Q9iN"

    found = coco_file(tmp_path / "s.json", {"size": [7, 9], "counts": "6183K00000=MF"})
    assert np.array_equal(ulna(found), small)
    segmentation = {"size": [60, 50], "counts": code}
    found = coco_file(tmp_path / "l.json", segmentation, height=60, width=50)
    assert np.array_equal(ulna(found), large)


def test_several_polygons_and_annotations_of_a_bone_are_a_union(tmp_path: Path) -> None:
    squares = [[0, 0, 2, 0, 2, 2, 0, 2], [5.2, 3.9, 7, 4, 7, 6, 5, 6]]
    path = coco_file(tmp_path / "p.json", squares, [[1, 1, 3, 1, 3, 3, 1, 3]])
    expected = np.zeros((7, 9), dtype=bool)
    expected[:3, :3] = expected[1:4, 1:4] = expected[4:7, 5:8] = True

    assert np.array_equal(ulna(path), expected)


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ({"size": [7, 9], "counts": [1, 2]}, "annotations.0: counts make 3 pixels, expected 63"),
        ({"size": [9, 7], "counts": [63]}, "size is [9, 7], its image has [7, 9]"),
        ({"size": [7, 9], "counts": [-1, 64]}, "greater than or equal to 0"),
        ({"size": [7, 9], "counts": [10**12]}, "less than or equal to 100000000"),
        ({"size": [7, 9], "counts": "é"}, "counts are no compressed run lengths"),
        ({"size": [7, 9], "counts": "P"}, "counts are cut off"),
        ({"size": [7, 9], "counts": "N"}, "count -2, expected 0 to"),
        ([[0, 0, 1, 1]], "annotations.0: 2 points, a polygon needs 3"),
        ([[0, 0, 1, 1, 2]], "a polygon has 5 numbers, expected x and y in turn"),
        ([[0, 0, 1, 1, 2, 1e300]], "points are no pairs of numbers within +-1,000,000"),
        ("x", "annotations.0.segmentation"),
    ],
)
def test_a_wrong_coco_annotation_is_refused_with_its_place(
    tmp_path: Path, segmentation: object, reason: str
) -> None:
    path = coco_file(tmp_path / "c.json", segmentation)
    with pytest.raises(InvalidInput) as raised:
        hands_of(Format.COCO, path)
    assert str(path) in str(raised.value)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "EOF while parsing"),
        ("[" * 100_000, "recursion limit exceeded"),
        ('{"images": [], "categories": [{"id": 1, "name": "ulna"}], "annotations": []}', "Ulna?"),
        ('{"images": 1}', "images: "),
    ],
)
def test_a_file_that_is_no_coco_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"c\.json") as raised:
        hands_of(Format.COCO, path)
    assert reason in str(raised.value)


def test_labelme_has_outlines_where_they_are_exact_and_the_mask_elsewhere(tmp_path: Path) -> None:
    ring = disc()
    ring[18:22, 13:17] = False
    write(Format.LABELME, [hand([disc(), ring])], tmp_path / "l")

    content = json.loads((tmp_path / "l" / "a.json").read_text())
    outline, mask = content["shapes"]
    assert (outline["label"], outline["shape_type"]) == ("finger-1", "polygon")
    assert (mask["label"], mask["shape_type"]) == ("finger-2", "mask")
    (x0, y0), (x1, y1) = mask["points"]
    crop = cv2.imdecode(
        np.frombuffer(base64.b64decode(mask["mask"]), dtype=np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert crop is not None
    assert np.array_equal(crop.astype(bool), ring[y0 : y1 + 1, x0 : x1 + 1])
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == (
        "a.png",
        40,
        30,
    )


def labelme_file(folder: Path, **changes: object) -> Path:
    shape = {"label": "Ulna", "points": [[1, 1], [3, 1], [3, 3.4]], "shape_type": "polygon"}
    content: dict[str, Any] = {
        "imagePath": "../x/a.png",
        "imageHeight": 9,
        "imageWidth": 9,
        "shapes": [{**shape, **changes}],
    }
    folder.mkdir(exist_ok=True)
    (folder / "a.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": "ulna"}, "shapes.0: unknown label 'ulna'; did you mean Ulna?"),
        ({"shape_type": "circle"}, "shape_type 'circle', expected polygon or mask"),
        ({"points": [[1, 1]]}, "1 points, a polygon needs 3"),
        ({"points": [[1, 1, 1]]}, "shapes.0.points.0"),
        ({"points": [[1, 1], [2, 2], [3, 10**12]]}, "no pairs of numbers within"),
        ({"shape_type": "mask", "mask": "%"}, "the mask is not in base64"),
        ({"shape_type": "mask", "mask": "AAAA"}, "not a PNG"),
        (
            {
                "shape_type": "mask",
                "mask": base64.b64encode(encode_png(np.ones((9, 9), np.uint8))).decode(),
            },
            "a mask of 9 x 9 pixels at 1, 1 leaves the picture",
        ),
    ],
)
def test_a_wrong_labelme_shape_is_refused_with_its_place(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    assert len(hands_of(Format.LABELME, labelme_file(tmp_path / "right"))[0].runs[28]) == 3
    with pytest.raises(InvalidInput) as raised:
        hands_of(Format.LABELME, labelme_file(tmp_path / "wrong", **changes))
    assert reason in str(raised.value)


def masks_folder(path: Path) -> Path:
    write(Format.MASKS, [hand([disc()])], path)
    return path


def no_ulna(folder: Path) -> None:
    (folder / "a.png" / "Ulna.png").unlink()


def another_file(folder: Path) -> None:
    (folder / "a.png" / "Thumb.png").touch()


def another_size(folder: Path) -> None:
    (folder / "a.png" / "Ulna.png").write_bytes(encode_png(np.zeros((3, 3), np.uint8)))


def gray_values(folder: Path) -> None:
    data = encode_png(np.arange(1200, dtype=np.uint8).reshape(40, 30))
    (folder / "a.png" / "Ulna.png").write_bytes(data)


def cut_off(folder: Path) -> None:
    path = folder / "a.png" / "Ulna.png"
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (no_ulna, "Ulna.png: is missing"),
        (another_file, "Thumb.png: is no bone's mask"),
        (another_size, "Ulna.png: 3 x 3 pixels, finger-1.png has 30 x 40"),
        (gray_values, "Ulna.png: 256 gray values, expected 0 outside and one other inside"),
        (cut_off, "Ulna.png: cut off"),
    ],
)
def test_a_wrong_png_mask_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    folder = masks_folder(tmp_path / "m")
    spoil(folder)
    with pytest.raises(InvalidInput) as raised:
        hands_of(Format.MASKS, folder)
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    "name", ["sub/a.png", "../a.png", "..", "a\\b.png", "a\0.png", "x" * 201, "/etc/x"]
)
@pytest.mark.parametrize("kind", [Format.MASKS, Format.LABELME])
def test_no_name_leads_out_of_the_target_and_nothing_is_left(
    tmp_path: Path, kind: Format, name: str
) -> None:
    found = Hand(WithName(name), hand([disc()]).runs)
    with pytest.raises(InvalidInput, match="cannot be a file's name"):
        write(kind, [hand([disc()], "first.png"), found], tmp_path / "in" / "out")
    assert os.listdir(tmp_path) == ["in"]
    assert os.listdir(tmp_path / "in") == []


class WithName(Image):
    """An image with any name."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 40, 30)

    @property
    def name(self) -> str:
        return self.path


@pytest.mark.parametrize("name", ["", "..", "a\nb.png", "a\0.png", "x" * 201])
def test_a_name_from_a_document_is_a_file_s_name(tmp_path: Path, name: str) -> None:
    folder = labelme_file(tmp_path)
    path = folder / "a.json"
    path.write_text(path.read_text().replace('"../x/a.png"', json.dumps(name)))
    with pytest.raises(InvalidInput, match="cannot be a file's name; rename the image"):
        hands_of(Format.LABELME, folder)


def test_a_folder_with_files_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    for kind in (Format.MASKS, Format.LABELME):
        with pytest.raises(ConflictError, match="not an empty folder; choose another --to"):
            write(kind, [hand([disc()])], tmp_path)
    assert os.listdir(tmp_path) == ["mine"]


def test_two_names_that_differ_in_their_ending_alone_are_no_labelme_files(tmp_path: Path) -> None:
    hands = [hand([disc()], name) for name in ("a.png", "a.jpg")]
    with pytest.raises(InvalidInput, match=r"two images would be a.json, one of them a.jpg"):
        write(Format.LABELME, hands, tmp_path / "l")


def pictures(folder: Path, *paths: str, size: tuple[int, int] = (40, 30)) -> PictureFolder:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(encode_png(np.zeros(size, np.uint8)))
    return PictureFolder(open_store(folder))


@pytest.mark.parametrize("kind", OTHERS)
def test_with_pictures_the_masks_come_in_the_order_of_their_paths(
    tmp_path: Path, kind: Format
) -> None:
    path = path_for(kind, tmp_path)
    write(kind, [hand([disc()], "a.png"), hand([disc()], "b.png")], path)
    folder = pictures(tmp_path / "p", "1/b.png", "2/a.png")

    found = list(read(kind, path, folder.expected(), folder))

    assert [item.image.name for item in found] == ["b.png", "a.png"]


def test_masks_that_do_not_fit_the_pictures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write(Format.COCO, [hand([disc()], "a.png")], path)
    folders = {
        "no masks of b.png": pictures(tmp_path / "more", "a.png", "b.png"),
        "unknown image 'a.png': no picture of this name": pictures(tmp_path / "other", "b.png"),
        "masks of a.png are 30 x 40 pixels, the picture is 9 x 9": pictures(
            tmp_path / "small", "a.png", size=(9, 9)
        ),
    }
    for reason, folder in folders.items():
        with pytest.raises(InvalidInput, match=reason):
            list(read(Format.COCO, path, folder.expected(), folder))


def test_labelme_files_lead_to_the_pictures(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", "1/a.png")
    write(Format.LABELME, [hand([disc()])], tmp_path / "l" / "out", folder)
    content = json.loads((tmp_path / "l" / "out" / "a.json").read_text())
    assert content["imagePath"] == "../../p/1/a.png"


@pytest.mark.parametrize("kind", list(Format))
def test_what_is_not_there_is_not_found(tmp_path: Path, kind: Format) -> None:
    with pytest.raises(NotFoundError, match="no such"):
        hands_of(kind, tmp_path / "none")
