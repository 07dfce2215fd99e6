"""What is wrong with a raw set: findings, each by a named rule.

A rule is a small function from what is known of one hand (`Evidence`) to messages; `RULES` is
their table. Rules on the whole set look at names only. `hbseg data check` prints the report, and
`prepare` refuses a set that has errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from hbseg.data import label_rules, picture_rules
from hbseg.data.evidence import Evidence, gather
from hbseg.data.raw import RawImage, missing_pictures, scan
from hbseg.data.workers import Progress, parallel_map
from hbseg.documents import Block, Document

Severity = Literal["error", "warning"]


class Problem(Block):
    """One finding."""

    image: str
    """Path of the picture in the set; the path it should have, where it is missing."""
    rule: str
    """Name of the rule, e.g. `class-missing`."""
    severity: Severity
    """Errors keep a set from being prepared, warnings do not."""
    message: str
    """What was found and what was expected, one line."""


class CheckReport(Document):
    """All findings of a set."""

    kind: Literal["CheckReport"] = "CheckReport"
    images: int = Field(ge=0)
    """Number of pictures that were looked at."""
    problems: tuple[Problem, ...] = ()
    """Findings, sorted by image, then in the order of the rules."""

    @property
    def errors(self) -> list[Problem]:
        """The findings that are errors."""
        return [problem for problem in self.problems if problem.severity == "error"]


@dataclass(frozen=True)
class Rule:
    """A rule on one hand: `find` yields a message for each finding."""

    name: str
    severity: Severity
    find: Callable[[Evidence], Iterator[str]]


RULES: Final = (
    Rule("picture-unreadable", "error", picture_rules.unreadable),
    Rule("picture-size", "error", picture_rules.wrong_size),
    Rule("picture-depth", "error", picture_rules.wrong_depth),
    Rule("annotation-missing", "error", label_rules.annotation_missing),
    Rule("annotation-unreadable", "error", label_rules.unreadable),
    Rule("class-missing", "error", label_rules.class_missing),
    Rule("class-unknown", "error", label_rules.class_unknown),
    Rule("class-doubled", "error", label_rules.class_doubled),
    Rule("second-polygon", "warning", label_rules.second_polygon),
    Rule("few-points", "error", label_rules.few_points),
    Rule("points-outside", "error", label_rules.points_outside),
    Rule("odd-metadata", "warning", label_rules.odd_metadata),
)
"""Rules on one hand, in the order in which findings are reported."""


def check(root: Path, *, workers: int = 1, progress: Progress | None = None) -> CheckReport:
    """Return the findings in the raw set at `root`; each picture is read and decoded once.

    `workers` processes share the pictures; `progress` is called after each. Memory does not grow
    with the set, but for the findings.

    Raises:
        NotFoundError, InvalidInput, DeniedError: there is no such set (see `raw.scan`).
    """
    images = scan(root)
    problems = list(set_problems(root, images))
    found = parallel_map(partial(_check_one, root), images, workers=workers)
    for done, of_image in enumerate(found, start=1):
        problems += of_image
        if progress is not None:
            progress("check", done, len(images))
    return CheckReport(images=len(images), problems=tuple(in_order(problems)))


def problems_of(evidence: Evidence) -> list[Problem]:
    """Return the findings of all rules on one hand."""
    return [
        Problem(image=evidence.image.path, rule=rule.name, severity=rule.severity, message=message)
        for rule in RULES
        for message in rule.find(evidence)
    ]


def set_problems(root: Path, images: Sequence[RawImage]) -> Iterator[Problem]:
    """Yield what the names alone tell: annotations without picture, hands without their pair."""
    for path in missing_pictures(root, images):
        message = "an annotation is there, but not its picture"
        yield Problem(image=path, rule="picture-missing", severity="error", message=message)
    for image, message in _unpaired(images):
        yield Problem(image=image.path, rule="unpaired-hand", severity="warning", message=message)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems sorted by image; those of one image keep their order."""
    return sorted(problems, key=lambda problem: problem.image)


def _check_one(root: Path, image: RawImage) -> list[Problem]:
    return problems_of(gather(root, image, decode=True))


def _unpaired(images: Sequence[RawImage]) -> Iterator[tuple[RawImage, str]]:
    people: dict[tuple[str, str], list[RawImage]] = {}
    for image in images:
        people.setdefault((image.split, image.person), []).append(image)
    for (_, person), hands in people.items():
        both = "".join(sorted(hand.side for hand in hands))
        if both != "LR":
            message = f"{person} has {len(hands)} pictures ({', '.join(both)}), expected L and R"
            yield from ((hand, message) for hand in hands)
