"""The page of a report, parsed, and its charts."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from jinja2 import UndefinedError

import hbseg.report
from hbseg.anatomy import BONES, GROUPS
from hbseg.report.build import render
from hbseg.report.charts import Series, boxes, curve, histogram, lines
from hbseg.report.contents import (
    BoneShape,
    Contents,
    Epoch,
    ReportedHand,
    Stage,
    StepVersion,
)
from hbseg.report.flagged import MAX_REASONS, MAX_ROWS, flag_texts
from hbseg.report.legend import FULL_NAMES
from hbseg.report.page import render_page
from hbseg.report.sections import SECTIONS, report_view
from hbseg.report.svg import element, markup
from hbseg.runs.results import Flags
from tests.efficiency import measured_at
from tests.unit.report.conftest import flags

Make = Callable[..., Contents]

VOID = {"meta", "link", "img", "input"}
HOSTILE = """<script>alert("1")</script> & 'quoted' "손목" ]]> -- \x00\x1b \ud800"""


class Page(HTMLParser):
    """All tags with their attributes, all texts; refuses a page that is not well formed."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute stands twice: {tag} {attrs}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.tags)

    def attributes(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def test_a_whole_report_is_well_formed_and_has_all_its_parts(contents: Make) -> None:
    page = Page(render(contents()))
    assert [page.count(name) for name in ("h1", "main", "header", "footer", "nav")] == [1] * 5
    for title in SECTIONS.values():
        assert title in page.texts
    assert len([a for a in page.attributes("svg") if a.get("role") == "img"]) == 5
    for bone in BONES:
        assert bone in page.texts
        assert FULL_NAMES[bone] in page.texts
    for group in GROUPS:
        assert group in page.texts
    assert page.count("figure") == 3
    assert "Research software, not a medical device." in page.texts
    assert "Dice on synthetic hands is optimistic" in page.text


def test_the_page_loads_nothing_and_its_policy_allows_its_one_script(contents: Make) -> None:
    text = render(contents()).decode()
    assert re.findall(r"https?:|//[a-z]|@import|url\(|javascript:", text) == []
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = Page(text.encode())
    (policy,) = (a["content"] for a in page.attributes("meta") if "http-equiv" in a)
    assert policy is not None
    assert policy.split("; ")[0] == "default-src 'none'"
    assert [part for part in policy.split("; ") if part.startswith("script-src")] == [
        f"script-src 'sha256-{digest}'"
    ]
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for link in ("src", "href"):
            assert (attributes.get(link) or "#").startswith(("#", "data:"))


def test_every_link_and_label_has_its_target(contents: Make) -> None:
    page = Page(render(contents()))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    wanted = [a["href"] for a in page.attributes("a")]
    wanted += [attributes.get("aria-labelledby") for attributes in page.attributes("section")]
    assert {link.removeprefix("#") for link in wanted if link} <= set(ids)


def test_pictures_have_texts_and_table_heads_their_scope(contents: Make) -> None:
    page = Page(render(contents()))
    alts = [image["alt"] for image in page.attributes("img")]
    assert alts == [
        "Radiograph image3.png with the masks of 29 bones",
        "Radiograph image0.png with the masks of 29 bones",
        "Radiograph image7.png with the masks of 28 bones",
    ]
    assert all("scope" in attributes for attributes in page.attributes("th"))
    assert page.count("caption") == page.count("table")
    for svg in page.attributes("svg"):
        assert svg.get("aria-hidden") == "true" or svg.get("aria-label")
    assert "Empty: Pisiform" in page.text


def test_hostile_texts_appear_as_they_are_and_never_as_markup(contents: Make) -> None:
    given = contents(
        run=HOSTILE,
        stages=(Stage(2, (Epoch(1, 1.0, 0.5, {"Ulna": 0.5}),), HOSTILE, init_from=HOSTILE),),
        validation={(HOSTILE, "Radius"): 0.5},
        worst=(),
        best=(),
        hands=(ReportedHand(HOSTILE, b"x", 9, 9, (BoneShape("Ulna", ""),), flags=(HOSTILE,)),),
        efficiency=measured_at(10).model_copy(update={"backend": HOSTILE, "processor": HOSTILE}),
        versions=(StepVersion(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        finished=HOSTILE,
        dataset=HOSTILE,
    )
    raw = render(given)
    page = Page(raw)
    shown = HOSTILE.replace("\x00\x1b", "\ufffd\ufffd").replace("\ud800", "?")
    assert page.count("script") == 1
    assert b"<script>alert" not in raw
    assert page.texts.count(shown) >= 5
    assert shown in (page.attributes("img")[0]["alt"] or "")


@pytest.mark.parametrize(
    ("part", "nothing", "said"),
    [
        ("stages", (), "No metrics of a training."),
        ("stages", (Stage(1), Stage(2)), "No metrics of a training."),
        ("stages", (Stage(1),), "Stage 2 is not part of this run."),
        (
            "stages",
            (Stage(2, (Epoch(1, 1.0),), init_from="s3://a/b"),),
            "Stage 1 is not part of this run: stage 2 started from s3://a/b.",
        ),
        ("stages", (Stage(2, (Epoch(1, 1.0),)),), "Stage 1 is not part of this run."),
        ("validation", {}, "hbseg submit-infer --mode valid"),
        ("flags", None, "The test images were not judged."),
        ("efficiency", None, "Efficiency was not measured."),
        ("num_test_images", None, "Training"),
        ("versions", (), "Training"),
    ],
)
def test_what_is_missing_is_said(contents: Make, part: str, nothing: object, said: str) -> None:
    assert said in Page(render(contents(**{part: nothing}))).text


def test_a_run_of_which_nothing_is_known_has_a_report_too() -> None:
    page = Page(render(Contents("empty")))
    assert "Efficiency was not measured." in page.texts
    assert page.count("img") == 0


def test_a_whole_report_lacks_nothing(contents: Make) -> None:
    text = Page(render(contents())).text
    assert [word for word in ("not part", "has no", "No ", "not measured") if word in text] == []


def test_masks_without_pictures_and_no_masks_at_all_are_told_apart(contents: Make) -> None:
    without = {"worst": (), "best": (), "hands": ()}
    assert "This report has no pictures." in Page(render(contents(**without))).texts
    none = Page(render(contents(**without, flags=None, num_test_images=None)))
    assert "The run has no masks of the test images: hbseg submit-infer." in none.texts


def test_a_report_without_names_names_no_image(contents: Make) -> None:
    named = {"worst": (), "best": (), "hands": ()}
    assert ".png" in Page(render(contents(**named))).text
    page = Page(render(contents(**named, shows_names=False)))
    assert ".png" not in page.text
    assert "1 of 12 images have a flag." in page.texts


def test_scores_have_their_confidence_intervals_and_what_was_not_measured_a_dash(
    contents: Make,
) -> None:
    texts = Page(render(contents())).texts
    assert texts.count("0.910 (0.900–0.920)") == 2 + len(BONES)
    assert "7.2 (6.0–8.5)" in texts
    assert "side: left" in texts
    assert "0.38" in texts  # a threshold
    assert texts.count("–") >= 2 + len(BONES)  # surface Dice at 1 px


def test_flags_are_told_the_most_severe_first(contents: Make) -> None:
    page = Page(render(contents()))
    why = "Pisiform: the mask is empty; Pisiform: the second part has 30 % of the area"
    assert why in page.texts
    assert "bone missing" in page.texts
    assert page.texts.count("is odd") == 3  # below each figure


def test_a_long_list_of_flagged_images_is_cut_and_says_so(contents: Make) -> None:
    many = flags(*(f"image{number}.png" for number in range(MAX_ROWS + 3)))
    page = Page(render(contents(flags=many, worst=(), best=(), hands=(), validation={})))
    assert "Look at these first; 3 more are in flags.json" in page.texts
    assert page.text.count(".png") == MAX_ROWS


def test_many_reasons_of_an_image_are_cut_and_counted(contents: Make) -> None:
    (image,) = flags("image7.png").flagged
    many = image.model_copy(update={"flags": image.flags * 3})
    found = Flags(images=1, flagged=(many,))
    reasons = flag_texts(found)["image7.png"]
    assert len(reasons) == MAX_REASONS + 1
    assert reasons[:3] == ("Pisiform: the mask is empty",) * 3
    assert reasons[-1] == "and 2 more"
    page = Page(render(contents(flags=found)))
    assert "; ".join(reasons) in page.texts


def test_every_switch_has_a_rule_and_something_to_hide(contents: Make) -> None:
    raw = render(contents()).decode()
    page = Page(raw.encode())
    boxes = [a["id"] for a in page.attributes("input") if (a.get("id") or "").startswith("show-")]
    assert len(boxes) == 3 + len(BONES)
    classes = {name for _, a in page.tags for name in (a.get("class") or "").split()}
    for box in boxes:
        assert f"#{box}:not(:checked)" in raw
        assert (box or "").removeprefix("show-") in classes


def test_the_truth_is_drawn_where_it_is_known_only(contents: Make) -> None:
    page = Page(render(contents()))
    figures = [a.get("class") for a in page.attributes("figure")]
    assert figures == ["has-truth", "has-truth", None]
    values = [a["value"] for a in page.attributes("input") if a.get("name") == "layer"]
    assert values == ["both", "prediction", "truth", "difference", "none"]
    alone = Page(render(contents(worst=(), best=())))
    values = [a["value"] for a in alone.attributes("input") if a.get("name") == "layer"]
    assert values == ["prediction", "none"]


def test_equal_contents_give_equal_bytes(contents: Make) -> None:
    assert render(contents()) == render(contents())


def test_the_best_epoch_stands_for_its_stage(contents: Make) -> None:
    epochs = (
        Epoch(1, 1.0, 0.8125, {"Ulna": 0.8125}),
        Epoch(2, 1.0, 0.5, {"Ulna": 0.5}),
        Epoch(3, 1.0),
    )
    page = Page(render(contents(stages=(Stage(1, epochs),), validation={})))
    assert page.texts.count("0.812") >= 3  # card, bone and its group
    assert "0.500" not in page.texts


def test_the_latency_card_compares_engine_and_eager(contents: Make) -> None:
    text = Page(render(contents())).text
    assert "60 ms" in text
    assert "2.0 times as fast as eager" in text


def test_the_efficiency_section_tells_its_chart_and_tables(contents: Make) -> None:
    page = Page(render(contents()))
    sentence = (
        "With 8 images a call, the onnx engine takes 20.0 images/s, 2.0 times as many as the eager "
        "network, on a processor with 1 thread."
    )
    assert sentence in page.texts
    (chart,) = [svg for svg in page.attributes("svg") if "images of a call" in str(svg)]
    assert chart["aria-label"] == (
        "Images per second by the number of images of a call: eager 8.3 at 1, 9.1 at 2, 9.3 at 4, "
        "10.0 at 8; engine 16.7 at 1, 20.0 at 8"
    )
    assert "engine of batch size 8" in page.texts
    assert "390.0" in page.texts


@pytest.mark.parametrize("dice", [0.0, 0.5, 0.999999, 1.0])
def test_charts_stay_in_their_frame_whatever_the_dice(dice: float) -> None:
    stages = [Stage(1, (Epoch(1, 0.0, dice), Epoch(4, 1e9, dice))), Stage(2)]
    validation = {(f"{hand}.png", bone): dice for hand in range(3) for bone in BONES}
    charts = [
        curve("Dice", stages, lambda epoch: epoch.dice, top=1.0),
        curve("Loss", stages, lambda epoch: epoch.loss, top=None),
        boxes(validation),
        histogram([dice] * 3),
        lines("Rate", "images", [Series("eager", "eager", {1: dice, 8: 1e6 * dice + 1})]),
    ]
    for chart in map(ElementTree.fromstring, charts):
        _, _, width, height = (float(part) for part in chart.attrib["viewBox"].split())
        for x, y in coordinates(chart):
            assert -1 <= x <= width + 1
            assert -1 <= y <= height + 1


def coordinates(chart: Element) -> list[tuple[float, float]]:
    found = []
    for mark in chart.iter():
        if "cx" in mark.attrib:
            found.append((float(mark.attrib["cx"]), float(mark.attrib["cy"])))
        if "y1" in mark.attrib:
            found += [(float(mark.attrib[f"x{n}"]), float(mark.attrib[f"y{n}"])) for n in "12"]
        if mark.tag == "rect":
            x, y, wide, tall = (float(mark.attrib[k]) for k in ("x", "y", "width", "height"))
            assert wide >= 0
            assert tall >= 0
            found += [(x, y), (x + wide, y + tall)]
    assert found
    return found


def test_a_curve_leaves_out_epochs_without_the_figure_and_puts_stage_2_after_stage_1() -> None:
    first = Stage(1, (Epoch(1, 1.0, 0.2), Epoch(2, 1.0), Epoch(3, 1.0, 0.4)))
    second = Stage(2, (Epoch(1, 1.0, 0.5), Epoch(2, 1.0, 0.6)))
    chart = ElementTree.fromstring(curve("Dice", [first, second], lambda e: e.dice, top=1.0))
    lines = [line.attrib["points"].split() for line in chart.iter("polyline")]
    assert [len(line) for line in lines] == [2, 2]
    places = [float(point.split(",")[0]) for line in lines for point in line]
    assert places == sorted(places)
    assert chart.attrib["aria-label"] == (
        "Dice by epoch: stage 1 from 0.200 to 0.400; stage 2 from 0.500 to 0.600"
    )


def test_a_box_spans_the_quartiles_of_its_bone() -> None:
    validation = {(f"{hand}.png", "Lunate"): hand / 100 for hand in range(101)}
    told = [title.text for title in ElementTree.fromstring(boxes(validation)).iter("title")]
    assert told == ["Lunate (Lunate): median 0.500, 5 % below 0.050"]


def test_a_histogram_counts_every_hand_once() -> None:
    values = [0.5, 0.61, 0.62, 0.9, 1.0]
    titles = ElementTree.fromstring(histogram(values)).iter("title")
    counts = [int((title.text or "").split()[0]) for title in titles]
    assert sum(counts) == len(values)


def test_the_lines_and_bars_of_a_stage_keep_their_colour_without_the_other_stage(
    contents: Make,
) -> None:
    page = Page(render(contents(stages=contents().stages[1:], efficiency=None)))
    lines = [a["class"] for a in page.attributes("g") if "line" in (a.get("class") or "")]
    bars = {a["class"] for a in page.attributes("span") if "bar" in (a.get("class") or "")}
    assert lines == ["line stage2", "line engine", "line stage2", "line stage2"]
    assert bars == {"bar stage2", "bar engine"}


def test_svg_escapes_texts_and_attributes() -> None:
    made = element("text", text="<&>", x=1.5, y=2.0, class_='"a"', text_anchor="end")
    assert markup(made) == (
        '<text x="1.5" y="2" class="&quot;a&quot;" text-anchor="end">&lt;&amp;&gt;</text>'
    )


def test_bars_show_differences_between_high_figures(contents: Make) -> None:
    stage = contents().stages[1]
    page = Page(render(contents(stages=(replace(stage, number=2),), validation={})))
    widths = {a["style"] for a in page.attributes("i")}
    assert len(widths) > 20


def test_a_value_that_a_template_names_and_nobody_gave_is_an_error(contents: Make) -> None:
    parts = vars(report_view(contents()))
    given = SimpleNamespace(**{name: part for name, part in parts.items() if name != "dataset"})
    with pytest.raises(UndefinedError, match="dataset"):
        render_page("report.html.j2", report=given)


def test_no_template_switches_escaping_off() -> None:
    folder = Path(hbseg.report.__file__).parent / "templates"
    templates = {path.name: path.read_text() for path in folder.glob("*.j2")}
    assert "report.html.j2" in templates
    for name, text in templates.items():
        assert not re.search(r"\|\s*safe\b|autoescape", text), name


def test_neither_the_command_line_nor_overlays_import_the_templates_engine() -> None:
    code = "import sys, hbseg_cli.main, hbseg.report.overlay; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
