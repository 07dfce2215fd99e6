"""The reports in a real browser: headless Chromium, by mouse, keyboard and without script."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from hbseg import submission
from hbseg.anatomy import BONES, NUM_BONES
from hbseg.report.build import render
from hbseg.report.contents import Contents, Epoch, ReportedHand, Stage
from hbseg.report.hands import draw_hand
from hbseg.report.pictures import build_pictures_report
from hbseg.report.sections import SECTIONS
from hbseg.rle import Runs, encode, runs_of
from hbseg.runs.results import (
    Flag,
    FlaggedImage,
    FlagKind,
    Flags,
    PictureRecord,
    Pictures,
    UnreadableRecord,
)
from tests.efficiency import measured_at

Open = Callable[..., Page]

SIDE = 290
GRAY = np.full((SIDE, SIDE), 60, dtype=np.uint8)
LIGHT_PAGE, DARK_PAGE, PAPER = "rgb(246, 247, 249)", "rgb(16, 20, 24)", "rgb(255, 255, 255)"
DARK_INK = "rgb(27, 35, 48)"


def blocks(shift: int) -> list[Runs]:
    """A block for each bone, side by side; they overlap by a few pixels."""
    masks = np.zeros((NUM_BONES, SIDE, SIDE), dtype=bool)
    for place, mask in enumerate(masks):
        mask[20 : SIDE - 20, 10 * place : 10 * place + 14] = True
    return [runs_of(np.roll(mask, shift, axis=0)) for mask in masks]


def hand(name: str, shift: int | None = None) -> ReportedHand:
    truth = None if shift is None else blocks(shift)
    dice = None if shift is None else dict.fromkeys(BONES, 0.9)
    return draw_hand(name, GRAY, blocks(0), limit=10**6, truth=truth, dice=dice, flags=["odd"])


def contents() -> Contents:
    epochs = tuple(
        Epoch(n, 1 / n, 1 - math.exp(-n), dict.fromkeys(BONES, 1 - math.exp(-n)))
        for n in range(1, 6)
    )
    return Contents(
        run="wrist-<&>-손목",
        stages=(Stage(1, epochs, "kind: TrainSpec"), Stage(2, epochs)),
        validation={(f"{place}.png", bone): 0.9 for place in range(5) for bone in BONES},
        worst=(hand("worst.png", 9),),
        best=(hand("best.png", 2),),
        hands=(hand("test.png"),),
        num_test_images=2,
        flags=Flags(images=2, flagged=(flagged("test.png"),)),
        efficiency=measured_at(10),
    )


def flagged(image: str) -> FlaggedImage:
    text = "the mask is empty"
    return FlaggedImage(
        image=image,
        flags=(Flag(kind=FlagKind.MISSING, bone="Ulna", severity=1.0, text=text),),
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_bytes(render(contents()))
    return file


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three pictures, of which one cannot be read."""
    folder = tmp_path_factory.mktemp("pictures")
    records = [PictureRecord(path=f"in/{name}.png", height=SIDE, width=SIDE) for name in "ab"]
    codes = [encode(mask_of(runs)) for runs in blocks(0)]
    images = [submission.Image(record.path, SIDE, SIDE) for record in records]
    rows = "".join(submission.rows(image, [*codes[:-1], ""]) for image in images)
    (folder / "submission.csv").write_text(submission.header() + rows)
    broken = UnreadableRecord(path="in/c.png", problem="in/c.png: the file is empty")
    listed = Pictures(folder="s3://a/in", pictures=tuple(records), unreadable=(broken,))
    flags = Flags(images=2, flagged=(flagged("b.png"),))
    csv = folder / "submission.csv"
    file = folder / "report.html"
    file.write_bytes(build_pictures_report(listed, csv, lambda path: GRAY, flags))
    return file


def mask_of(runs: Runs) -> NDArray[np.bool_]:
    mask = np.zeros(SIDE * SIDE, dtype=bool)
    for start, length in runs:
        mask[start : start + length] = True
    return mask.reshape(SIDE, SIDE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a sandbox, which root cannot have."""
    place = shutil.which("chromium")
    assert place, "no chromium: apt-get install -y chromium (make does it)"
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def show(browser: Browser) -> Iterator[Open]:
    """Opens a page; what it complains of, and what it wants to load, fails the test."""
    told: list[str] = []
    opened = []

    def show(file: Path, **options: Any) -> Page:
        context = browser.new_context(**options)
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        wanted: list[str] = []
        page.on("request", lambda request: wanted.append(request.url))
        page.goto(file.as_uri())
        told.extend(url[:200] for url in wanted if not url.startswith(("data:", file.as_uri())))
        if options.get("java_script_enabled", True):
            page.evaluate("Promise.all([...document.images].map(image => image.decode()))")
        return page

    yield show
    for context in opened:
        context.close()
    assert told == []


def masks(page: Page, layer: str) -> list[bool]:
    """Returns of each picture whether a reader sees a layer's outline of the first bone."""
    figures = page.locator("figure").all()
    return [figure.locator(f".bone-0 .{layer}").first.is_visible() for figure in figures]


def shot(part: Locator) -> NDArray[np.uint8]:
    """Returns what a reader sees, [H, W, 3] BGR."""
    pixels = cv2.imdecode(np.frombuffer(part.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels.astype(np.uint8)


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


@pytest.mark.parametrize(("scheme", "colour"), [("light", LIGHT_PAGE), ("dark", DARK_PAGE)])
def test_a_report_shows_all_parts_and_is_accessible_in_both_schemes(
    show: Open, report: Path, scheme: str, colour: str
) -> None:
    page = show(report, color_scheme=scheme)
    assert background(page) == colour
    expect(page.get_by_role("heading", level=1)).to_have_text("wrist-<&>-손목")
    for title in SECTIONS.values():
        expect(page.get_by_role("region", name=title, exact=True)).to_be_visible()
    assert page.locator("svg.chart").count() == 5
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_of_pictures_is_accessible_in_both_schemes(
    show: Open, pictures: Path, scheme: str
) -> None:
    page = show(pictures, color_scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_have_text("s3://a/in")
    assert violations(page) == []


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in found]


def test_switches_show_and_hide_a_bone_a_group_and_all_bones(show: Open, report: Path) -> None:
    page = show(report)
    thumb, ulna = (page.locator(f"figure .{style} .prediction").first for style in places())
    group = page.get_by_role("group", name="distal phalanges", exact=True)
    all_of_group = group.get_by_role("checkbox", name="all distal phalanges")
    everything = page.get_by_role("checkbox", name="all bones")

    group.get_by_role("checkbox", name="distal phalanx, thumb").uncheck()
    expect(thumb).to_be_hidden()
    expect(ulna).to_be_visible()
    for box in (all_of_group, everything):
        assert box.evaluate("box => box.indeterminate")
    all_of_group.check()
    expect(thumb).to_be_visible()
    assert not everything.evaluate("box => box.indeterminate")
    all_of_group.uncheck()
    expect(thumb).to_be_hidden()
    assert masks(page, "prediction") == [False] * 3
    everything.check()
    everything.uncheck()
    expect(ulna).to_be_hidden()


def places() -> tuple[str, str]:
    return "bone-0", f"bone-{NUM_BONES - 1}"


@pytest.mark.parametrize(
    ("choice", "seen"),
    [
        ("prediction and truth", {"prediction": True, "truth": True}),
        ("prediction", {"prediction": True}),
        ("truth", {"truth": True}),
        ("difference", {"truth": True, "extra": True, "missed": True}),
        ("none", {}),
    ],
)
def test_truth_prediction_and_their_difference_are_one_switch(
    show: Open, report: Path, choice: str, seen: dict[str, bool]
) -> None:
    page = show(report)
    page.get_by_role("radio", name=choice, exact=True).check()
    for layer in ("prediction", "truth", "extra", "missed"):
        with_truth = masks(page, layer)[:2]
        assert with_truth == [seen.get(layer, False)] * 2, layer
    assert masks(page, "prediction")[2] == (choice != "none")  # its truth is not known


def test_overlapping_masks_blend(show: Open, report: Path) -> None:
    page = show(report)
    page.get_by_role("radio", name="prediction", exact=True).check()
    pane = page.locator("figure .pane").nth(2)
    seen = shot(pane)
    scale = seen.shape[1] / SIDE
    row = seen[seen.shape[0] // 2].astype(int)
    alone, shared, other = (row[round(x * scale)] for x in (37.0, 42.0, 47.0))
    assert np.abs(shared - alone).max() > 8
    assert np.abs(shared - other).max() > 8


def test_stages_and_engine_can_be_taken_out_of_charts_and_tables(show: Open, report: Path) -> None:
    page = show(report)
    line = page.locator(".chart .line.stage1").first
    cell = page.get_by_role("cell", name="0.993").first
    head = page.get_by_role("columnheader", name="Stage 1")
    expect(head).to_be_visible()
    page.get_by_role("checkbox", name="stage 1, 5 epochs").uncheck()
    for part in (line, head):
        expect(part).to_be_hidden()
    expect(cell).to_be_visible()  # stage 2's
    page.get_by_role("checkbox", name="engine", exact=True).uncheck()
    expect(page.get_by_role("columnheader", name="Engine")).to_be_hidden()


def test_a_picture_is_zoomed_by_buttons_and_keys_and_scrolled_by_arrows(
    show: Open, report: Path
) -> None:
    page = show(report)
    figure = page.locator("figure").first
    pane, zoom = figure.locator(".pane"), figure.get_by_role("status")
    width = pane.evaluate("pane => pane.scrollWidth")
    height = pane.evaluate("pane => pane.clientHeight")
    figure.get_by_role("button", name="Zoom into worst.png").click()
    expect(zoom).to_have_text("150 %")
    assert pane.evaluate("pane => pane.scrollWidth") == pytest.approx(1.5 * width, abs=2)
    assert pane.evaluate("pane => pane.offsetHeight") == pytest.approx(height, abs=1)
    assert pane.evaluate("pane => pane.scrollLeft") == pytest.approx(width / 4, abs=2)
    pane.focus()
    page.keyboard.press("+")
    expect(zoom).to_have_text("225 %")
    left = pane.evaluate("pane => pane.scrollLeft")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([pane, left]) => pane.scrollLeft > left", arg=[pane.element_handle(), left]
    )
    page.keyboard.press("0")
    expect(zoom).to_have_text("100 %")
    page.keyboard.press("-")
    expect(zoom).to_have_text("100 %")
    assert page.locator("figure").nth(1).get_by_role("status").text_content() == "100 %"


def test_a_zoomed_picture_is_moved_by_dragging_it(show: Open, report: Path) -> None:
    page = show(report)
    pane = page.locator("figure .pane").first
    pane.scroll_into_view_if_needed()
    for _ in range(3):
        page.locator("figure").first.get_by_role("button", name="Zoom into").click()
    box = pane.bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    left = pane.evaluate("pane => pane.scrollLeft")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 60, middle[1])
    page.mouse.up()
    assert pane.evaluate("pane => pane.scrollLeft") == pytest.approx(left + 60, abs=3)


def test_contrast_and_brightness_change_pictures_but_not_masks(show: Open, report: Path) -> None:
    page = show(report)
    page.get_by_role("radio", name="none").check()
    pane = page.locator("figure .pane").first
    before = int(shot(pane)[100, 100].max())
    page.get_by_role("slider", name="brightness").fill("2")
    assert int(shot(pane)[100, 100].max()) == pytest.approx(2 * before, abs=3)
    page.get_by_role("slider", name="contrast").fill("0.4")
    assert "contrast(0.4)" in page.locator("figure img").first.evaluate(
        "image => getComputedStyle(image).filter"
    )
    assert page.locator("figure svg").first.evaluate("svg => getComputedStyle(svg).filter") == (
        "none"
    )
    page.get_by_role("button", name="Reset").click()
    assert int(shot(pane)[100, 100].max()) == before


def test_all_controls_are_reached_by_tab_and_work_by_space_enter_and_arrows(
    show: Open, pictures: Path
) -> None:
    page = show(pictures)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the report")).to_be_focused()
    page.keyboard.press("Enter")
    reached = tabbed(page, page.get_by_role("radio", name="prediction"))
    assert reached, "tables that scroll come first"
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="none")).to_be_checked()
    for name in ("contrast", "brightness"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("slider", name=name)).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("slider", name=name)).to_have_value("1.1")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("slider", name="contrast")).to_have_value("1")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator("[id^=show-bone]:checked").count() == 0
    boxes = page.get_by_role("checkbox").count()
    assert len(tabbed(page, page.locator("figure .pane").first)) == boxes
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Zoom into in/b.png")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_have_text("150 %")


def tabbed(page: Page, wanted: Locator) -> list[str]:
    """Returns the elements that Tab reaches up to the one that is wanted."""
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(str(page.evaluate("document.activeElement.outerHTML.slice(0, 60)")))
        if wanted.evaluate("element => element === document.activeElement"):
            return reached
    raise AssertionError(f"not reached: {reached}")


def test_without_script_switches_work_and_what_would_not_is_not_there(
    show: Open, report: Path
) -> None:
    page = show(report, java_script_enabled=False)
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("slider")).to_have_count(0)
    expect(page.get_by_role("checkbox", name="all bones")).to_have_count(0)
    prediction = page.locator("figure .bone-0 .prediction").first
    expect(prediction).to_be_visible()
    page.get_by_role("checkbox", name="distal phalanx, thumb").uncheck()
    expect(prediction).to_be_hidden()
    page.get_by_role("radio", name="truth", exact=True).check()
    expect(page.locator("figure .bone-1 .truth").first).to_be_visible()
    width = page.locator("figure").first.bounding_box()
    page.get_by_role("link", name="Enlarge worst.png").click()
    larger = page.locator("figure").first.bounding_box()
    assert width is not None
    assert larger is not None
    assert larger["width"] > 2 * width["width"]


def test_paper_is_white_and_has_no_controls(show: Open, report: Path) -> None:
    page = show(report, color_scheme="dark")
    figure = page.locator("figure").first
    figure.get_by_role("button", name="Zoom into").click()
    page.get_by_role("radio", name="truth", exact=True).check()
    page.emulate_media(media="print")
    assert background(page) == PAPER
    assert page.evaluate("getComputedStyle(document.body).color") == DARK_INK
    for role in ("button", "slider", "checkbox", "radio", "navigation"):
        expect(page.locator("body").get_by_role(role)).to_have_count(0)
    expect(page.locator("label", has_text="truth").last).to_be_visible()
    expect(page.locator("label", has_text="difference")).to_be_hidden()
    pane, layers = (figure.locator(name).bounding_box() for name in (".pane", ".layers"))
    assert pane is not None
    assert layers is not None
    assert layers["width"] == pytest.approx(pane["width"], abs=1)
    assert page.pdf().startswith(b"%PDF")


def test_what_the_page_must_not_load_or_run_is_refused(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    added = b'<img src="/etc/x.png"><script>document.title = "run"</script></main>'
    file = tmp_path / "changed.html"
    file.write_bytes(report.read_bytes().replace(b"</main>", added))
    page = browser.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.goto(file.as_uri())
    title = page.title()
    page.close()
    assert title.startswith("hbseg report")
    assert len([text for text in told if "Content Security Policy" in text]) == 2


def test_a_report_of_pictures_begins_with_the_flagged_one(show: Open, pictures: Path) -> None:
    page = show(pictures)
    figures = page.get_by_role("figure")
    expect(figures.first).to_contain_text("in/b.png")
    expect(figures.first.get_by_role("list", name="Flags of in/b.png")).to_have_text(
        "Ulna: the mask is empty"
    )
    expect(page.get_by_role("row", name="in/c.png")).to_contain_text("the file is empty")
    expect(page.get_by_text("Research software, not a medical device.")).to_be_visible()
    page.get_by_role("radio", name="none").check()
    expect(figures.first.locator(".layers svg")).to_be_hidden()
