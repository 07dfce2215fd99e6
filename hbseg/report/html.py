"""The report as one HTML file: no script, no network, all text escaped."""

from __future__ import annotations

import base64
from typing import Final

import numpy as np

from hbseg.anatomy import BONES
from hbseg.report import charts, tables
from hbseg.report.contents import Contents, Latency, ReportedHand, Stage
from hbseg.report.legend import FULL_NAMES
from hbseg.report.markup import Child, Element, document, tag
from hbseg.report.style import CSS

POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content security policy: a browser refuses all but what lies in the file."""

SECTIONS: Final = {
    "training": "Training",
    "bones": "Dice per bone",
    "distribution": "Distribution over the validation hands",
    "hands": "Test hands",
    "efficiency": "Efficiency",
    "versions": "Specs and versions",
}


def render(contents: Contents) -> bytes:
    """Return the report, an HTML5 file in UTF-8; equal contents give equal bytes."""
    title = f"hbseg report: {contents.run}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", CSS),
    )
    main = tag(
        "main",
        _intended_use(),
        _section("training", *_training(contents)),
        _section("bones", *_bones(contents)),
        _section("distribution", *_distribution(contents)),
        _section("hands", *_hands(contents)),
        _section("efficiency", *_efficiency(contents)),
        _section("versions", *_versions(contents)),
        id="main",
    )
    body = tag("body", _header(contents), main, _footer())
    return document(tag("html", head, body, lang="en"))


def _header(contents: Contents) -> Element:
    links = [tag("li", tag("a", name, href=f"#{key}")) for key, name in SECTIONS.items()]
    told = f"Segmentation of the {len(BONES)} bones of the hand in radiographs"
    ended = (
        f" · last step finished {tables.time_text(contents.finished)}" if contents.finished else ""
    )
    return tag(
        "header",
        tag("a", "Skip to the report", href="#main", class_="skip"),
        tag("p", "hbseg report", class_="faint"),
        tag("h1", contents.run),
        tag("p", told + ended, class_="faint"),
        tables.cards(_summary(contents)),
        tag("nav", tag("ul", *links), aria_label="Sections"),
    )


def _summary(contents: Contents) -> list[tuple[str, str, str]]:
    cards = [
        (stage.name.capitalize(), tables.dice_text(stage.dice), "mean validation Dice")
        for stage in contents.stages
    ]
    means = tables.means_by_image(contents.validation)
    if means:
        mean = tables.dice_text(float(np.mean(list(means.values()))))
        cards.append(("Engine", mean, f"mean Dice of {len(means)} validation hands"))
    if contents.num_test_images is not None:
        cards.append(("Test images", str(contents.num_test_images), "with masks in the submission"))
    cards += _speed_cards(contents.latencies)
    return cards


def _speed_cards(latencies: tuple[Latency, ...]) -> list[tuple[str, str, str]]:
    timed = [(row, row.p50) for row in latencies if row.p50]
    if not timed:
        return []
    last, quickest = timed[-1]
    remark = f"one call, {last.name}, median"
    eager = timed[0][1]
    if len(timed) > 1:
        remark += f"; {eager / quickest:.1f} times as fast as {timed[0][0].name}"
    return [("Latency", f"{quickest:.0f} ms" if quickest >= 10 else f"{quickest:.1f} ms", remark)]


def _intended_use() -> Element:
    return tag(
        "section",
        tag("h2", "What this is, and what the figures mean"),
        tag(
            "p",
            tag("strong", "Research software, not a medical device."),
            " Do not use these masks for diagnosis, treatment or age assessment of a person.",
        ),
        tag(
            "p",
            "Dice is twice the shared area of predicted and annotated mask over the sum of both: "
            "1 is agreement in every pixel, 0 none. It is measured per bone at the picture's own "
            "size and averaged. Dice on synthetic hands is optimistic: their edges are cleaner "
            "than real ones, and they have no growth plates, fractures or implants.",
        ),
        class_="notice",
        id="use",
    )


def _training(contents: Contents) -> list[Child]:
    charted = [
        _curve("Loss", contents, lambda epoch: epoch.loss, top=None),
        _curve("Validation Dice", contents, lambda epoch: epoch.dice, top=1.0),
    ]
    if not any(charted):
        return [_none("No metrics of a training.")]
    return [_key(contents.stages), tag("div", *charted, class_="pair")]


def _curve(
    name: str, contents: Contents, read: charts.Reading, top: float | None
) -> Element | None:
    stages = [stage for stage in contents.stages if stage.epochs]
    if all(read(epoch) is None for stage in stages for epoch in stage.epochs):
        return None
    return tag("div", tag("h3", name), charts.curve(name, contents.stages, read, top=top))


def _key(stages: tuple[Stage, ...]) -> Element:
    items = []
    for place, stage in enumerate(stages, start=1):
        line = tag("g", tag("polyline", points="1,4 29,4"), class_=f"line stage{place}")
        sample = tag("svg", line, viewBox="0 0 30 8", aria_hidden="true")
        items.append(tag("li", sample, f"{stage.name}, {len(stage.epochs)} epochs"))
    return tag("ul", *items, class_="key")


def _bones(contents: Contents) -> list[Child]:
    if not tables.dice_columns(contents):
        return [_none("No Dice per bone was measured.")]
    return [tables.dice_table(contents), tables.worst_bones(contents)]


def _distribution(contents: Contents) -> list[Child]:
    means = list(tables.means_by_image(contents.validation).values())
    if not means:
        return [_none("The run has no validation of the engine: hbseg submit-infer --mode valid.")]
    boxes = tag(
        "div", charts.boxes(contents.validation), class_="scrolled", tabindex="0", role="group",
        aria_label="Chart",
    )  # fmt: skip
    return [
        tag("h3", "Each bone: line 5 to 95 %, box quartiles, dot median"),
        boxes,
        tag(
            "div",
            tag("div", tag("h3", "Hands by mean Dice"), charts.histogram(means)),
            tag("div", tables.worst_hands(contents)),
            class_="pair",
        ),
    ]


def _hands(contents: Contents) -> list[Child]:
    if not contents.hands:
        return [_none("This report has no pictures.")]
    names = [tag("li", charts.swatch(bone), FULL_NAMES[bone]) for bone in BONES]
    figures = [_hand(number, hand) for number, hand in enumerate(contents.hands, start=1)]
    told = (
        "Predicted masks on pictures that no training saw, at reduced size and with stretched "
        "contrast. Choose one to enlarge it."
    )
    return [
        tag("p", told),
        tag("ul", *names, class_="names"),
        tag("div", *figures, class_="hands"),
    ]


def _hand(number: int, hand: ReportedHand) -> Element:
    found = len(BONES) - len(hand.missing)
    alt = f"Radiograph {hand.name} with the masks of {found} bones"
    missing = ", ".join(FULL_NAMES.get(bone, bone) for bone in hand.missing)
    source = f"data:image/jpeg;base64,{base64.b64encode(hand.jpeg).decode()}"
    image = tag(
        "img", src=source, alt=alt, width=str(hand.width), height=str(hand.height), loading="lazy"
    )
    caption = tag(
        "figcaption",
        hand.name,
        f" · {found} of {len(BONES)} bones" if missing else None,
        f", empty: {missing}" if missing else None,
        tag("a", "smaller", href="#hands", class_="back"),
    )
    link = tag("a", image, href=f"#hand-{number}", title="Enlarge")
    return tag("figure", link, caption, id=f"hand-{number}")


def _efficiency(contents: Contents) -> list[Child]:
    if not contents.latencies and not contents.efficiency_document:
        return [_none("Efficiency was not measured.")]
    shown = tables.latency_table(contents.latencies) if contents.latencies else None
    return [shown, _folded("All that was measured", contents.efficiency_document)]


def _versions(contents: Contents) -> list[Child]:
    specs = [_folded(f"Spec of {stage.name}", stage.spec) for stage in contents.stages]
    dataset = tag("p", "Dataset version ", tag("code", contents.dataset))
    return [
        dataset if contents.dataset else None,
        tables.version_table(contents.versions) if contents.versions else None,
        *specs,
    ]


def _folded(name: str, text: str) -> Element | None:
    return tag("details", tag("summary", name), tag("pre", text)) if text else None


def _none(text: str) -> Element:
    return tag("p", text, class_="faint")


def _section(key: str, *children: Child) -> Element:
    heading = tag("h2", SECTIONS[key], id=f"{key}-name")
    return tag("section", heading, *children, id=key, aria_labelledby=f"{key}-name")


def _footer() -> Element:
    return tag(
        "footer",
        tag("p", "Made by hbseg. This file is complete: it loads nothing and runs no script."),
        class_="faint",
    )
