from __future__ import annotations

from hbseg.report.drawing import overlay_names


def test_pictures_that_differ_in_their_ending_alone_have_overlays_of_their_own() -> None:
    assert overlay_names(["a.png", "a.jpg", "b.jpg"]) == {
        "a.png": "a.png.png",
        "a.jpg": "a.jpg.png",
        "b.jpg": "b.png",
    }
