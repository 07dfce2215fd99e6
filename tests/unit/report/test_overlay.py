from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hbseg import rle
from hbseg.anatomy import BONES, COLOURS, INDEX, NUM_BONES
from hbseg.report.legend import FULL_NAMES, with_legend
from hbseg.report.overlay import (
    RIM,
    draw_overlay,
    line_width,
    outline_colour,
    stretched,
)

Mask = NDArray[np.bool_]
EMPTY = np.empty((0, 2), dtype=np.int64)


def film(height: int, width: int) -> NDArray[np.uint8]:
    """A dark film with a bright middle and noise."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = 30 + 150 * np.exp(-3 * (x**2 + y**2))
    noise = np.random.default_rng(0).normal(0, 4, (height, width))
    gray: NDArray[np.uint8] = np.clip(light + noise, 0, 255).astype(np.uint8)
    return gray


def disc(height: int, width: int, y: float, x: float, radius: float) -> Mask:
    rows, columns = np.mgrid[:height, :width]
    inside: Mask = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return inside


def runs_with(**masks: Mask) -> list[rle.Runs]:
    found = [EMPTY] * NUM_BONES
    for bone, mask in masks.items():
        found[INDEX[bone]] = rle.runs_of(mask)
    return found


def plain(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([stretched(gray)] * 3)


@pytest.mark.parametrize(
    ("height", "width"), [(300, 300), (501, 333), (1024, 1024), (3000, 4000), (4000, 3000)]
)
def test_any_size_gives_a_picture_of_the_same_size(height: int, width: int) -> None:
    gray = film(height, width)
    picture = draw_overlay(gray, runs_with(Radius=disc(height, width, height / 2, width / 2, 90)))
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8


def test_colours_land_on_the_masks_and_nowhere_else() -> None:
    gray = film(600, 500)
    masks = {"Radius": disc(600, 500, 200, 150, 80), "Lunate": disc(600, 500, 430, 330, 60)}
    picture, bare = draw_overlay(gray, runs_with(**masks)), plain(gray)
    rim = RIM * line_width(600, 500)
    near = disc(600, 500, 200, 150, 80 + rim) | disc(600, 500, 430, 330, 60 + rim)
    assert np.array_equal(picture[~near], bare[~near])
    for bone, mask in masks.items():
        assert (picture[mask] != bare[mask]).any(axis=1).all()
        change = picture[mask].astype(int).mean(axis=0) - bare[mask].astype(int).mean(axis=0)
        colour = np.array(COLOURS[bone], dtype=float)
        assert np.corrcoef(change, colour)[0, 1] > 0.9  # tinted towards the bone's own colour


def test_the_outline_lies_on_the_edge_inside_the_mask() -> None:
    mask = disc(900, 900, 450, 450, 300)
    picture = draw_overlay(film(900, 900), runs_with(Ulna=mask)).astype(int)
    colour = np.array(outline_colour(COLOURS["Ulna"]))
    assert np.abs(picture[450, 450 + 299] - colour).max() < 40
    assert np.abs(picture[450, 450 + 285] - colour).max() > 60
    assert len(np.unique(picture[450, 745:755], axis=0)) > 3  # a ramp, no step


def test_overlapping_masks_show_both_fills_and_both_outlines() -> None:
    gray = film(600, 600)
    left, right = disc(600, 600, 300, 250, 100), disc(600, 600, 300, 350, 100)
    both = draw_overlay(gray, runs_with(Capitate=left, Hamate=right)).astype(int)
    first = draw_overlay(gray, runs_with(Capitate=left)).astype(int)
    second = draw_overlay(gray, runs_with(Hamate=right)).astype(int)
    assert (both[300, 300] != first[300, 300]).any()
    assert (both[300, 300] != second[300, 300]).any()
    edge = np.array(outline_colour(COLOURS["Capitate"]))  # lies under the other bone's fill
    assert np.abs(both[300, 346:352] - edge).max(axis=1).min() < 50
    assert np.abs(both[300, 320:340] - edge).max(axis=1).min() > 70


def test_empty_masks_leave_the_stretched_radiograph() -> None:
    gray = film(320, 400)
    assert np.array_equal(draw_overlay(gray, runs_with()), plain(gray))


def test_a_mask_of_one_pixel_and_one_of_the_whole_picture_are_drawn() -> None:
    gray = film(300, 300)
    speck = np.zeros((300, 300), dtype=bool)
    speck[0, 299] = True
    picture = draw_overlay(gray, runs_with(Pisiform=speck, Radius=np.ones((300, 300), bool)))
    assert (picture != plain(gray)).any(axis=2).all()
    assert (draw_overlay(gray, runs_with(Pisiform=speck))[0, 299] != plain(gray)[0, 299]).any()


def test_the_radiograph_given_is_not_changed_and_may_be_read_only() -> None:
    gray = film(300, 300)
    gray.flags.writeable = False
    before = gray.copy()
    draw_overlay(gray, runs_with(Radius=disc(300, 300, 100, 100, 50)))
    assert np.array_equal(gray, before)


def test_runs_beyond_the_picture_and_a_wrong_number_of_masks_are_refused() -> None:
    runs = runs_with(Radius=np.ones((40, 40), bool))
    with pytest.raises(ValueError, match="runs end at pixel 1600, the picture has 30 x 40"):
        draw_overlay(film(30, 40), runs)
    with pytest.raises(ValueError, match="28 masks, expected 29"):
        draw_overlay(film(40, 40), runs[:28])


@pytest.mark.parametrize("value", [0, 7, 128, 255])
def test_a_film_of_one_gray_stays_one_gray(value: int) -> None:
    out = stretched(np.full((300, 300), value, dtype=np.uint8))
    assert out.min() == out.max()


def test_the_stretch_keeps_the_order_of_grays_and_opens_a_dark_film() -> None:
    ramp = np.arange(256, dtype=np.uint8).repeat(400).reshape(256, 400)
    assert (np.diff(stretched(ramp)[:, 0].astype(int)) >= 0).all()
    dark = (film(400, 400) // 3).astype(np.uint8)
    assert stretched(dark).mean() > 1.3 * dark.mean()


def test_a_drawing_needs_the_memory_of_a_few_pictures_and_not_of_29_planes() -> None:
    gray = film(2048, 2048)
    centres = np.random.default_rng(2).integers(200, 1850, (NUM_BONES, 2)).tolist()
    blank = np.zeros((2048, 2048), dtype=np.uint8)
    masks = {
        bone: cv2.circle(blank.copy(), centre, 110, 1, cv2.FILLED).astype(bool)
        for bone, centre in zip(BONES, centres, strict=True)
    }
    runs = runs_with(**masks)
    tracemalloc.start()
    try:
        picture = draw_overlay(gray, runs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"peak {peak / picture.nbytes:.2f} pictures")
    assert peak < 3 * picture.nbytes


@pytest.mark.parametrize(("height", "width"), [(300, 300), (2048, 2048)])
def test_a_legend_stands_beside_the_picture_and_has_every_colour(height: int, width: int) -> None:
    picture = plain(film(height, width))
    framed = with_legend(picture)
    assert np.array_equal(framed[:height, :width], picture)
    assert framed.shape[0] >= height
    panel = framed[:, width:].reshape(-1, 3)
    for colour in COLOURS.values():
        assert (panel == colour).all(axis=1).any()


def test_bones_have_the_names_of_anatomy() -> None:
    assert list(FULL_NAMES.values()).count("Radius") == 1
    assert len(set(FULL_NAMES.values())) == NUM_BONES
    assert FULL_NAMES["finger-2"] == "proximal phalanx, thumb"
    assert FULL_NAMES["finger-3"] == "thumb metacarpal"
    assert FULL_NAMES["finger-17"] == "middle phalanx, little"
