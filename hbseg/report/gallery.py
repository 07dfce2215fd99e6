"""Which hands of a run a report shows, drawn from its dataset and its submissions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hbseg import rle, submission
from hbseg.anatomy import BONES
from hbseg.data import annotation
from hbseg.data.dataset import Dataset
from hbseg.data.shards import Sample
from hbseg.errors import ContractError
from hbseg.report.contents import ReportedHand
from hbseg.report.dice import means_by_image
from hbseg.report.flagged import flag_texts
from hbseg.report.folders import SUBMISSION, StepFolder
from hbseg.report.hands import draw_hand
from hbseg.rle import Runs
from hbseg.runs.results import FLAGS, Flags

Validation = Mapping[tuple[str, str], float]
"""Dice by image and bone."""
Hands = tuple[ReportedHand, ...]


@dataclass
class Submitted:
    """The rows of a submission that a report needs."""

    num_images: int = 0
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Image name: code of each bone."""

    def runs(self, name: str, pixels: int) -> list[Runs]:
        """Return an image's runs in class order. Raises ContractError: they leave the picture."""
        try:
            return [rle.from_text(self.codes[name].get(bone, ""), pixels) for bone in BONES]
        except ValueError as error:
            raise ContractError(
                f"{SUBMISSION}: {name}: {error}", "run the step infer again"
            ) from None


@dataclass(frozen=True)
class Gallery:
    """Draws hands of a dataset; `limit` is the size of a picture in bytes."""

    dataset: Dataset | None
    """None: no pictures are drawn."""
    work: Path
    limit: int

    def tested(self, folder: StepFolder, wanted: int) -> tuple[Hands, int]:
        """Return at most `wanted` test hands, and how many images the submission has.

        Up to half of them are the most severely flagged, the others are spread over the split.
        """
        flags = flag_texts(folder.document(FLAGS, Flags))
        samples = _by_name(self.dataset.samples("test")) if self.dataset else {}
        names = chosen_test_hands(list(samples), list(flags), wanted)
        submitted = read_submitted(folder, names, self.work)
        hands = []
        for name in names:
            if self.dataset and name in submitted.codes:
                gray = self.dataset.picture(samples[name])
                runs = submitted.runs(name, gray.size)
                told = flags.get(name, ())
                hands.append(draw_hand(name, gray, runs, limit=self.limit, flags=told))
        return tuple(hands), submitted.num_images

    def extremes(
        self, folder: StepFolder, validation: Validation, wanted: int
    ) -> tuple[Hands, Hands]:
        """Return the hands with the lowest Dice and those with the highest, `wanted` together.

        Their truth is drawn, too.
        """
        if self.dataset is None or not validation:
            return (), ()
        samples = _by_name([*self.dataset.samples("train"), *self.dataset.samples("validation")])
        flags = flag_texts(folder.document(FLAGS, Flags))
        names = ends(means_by_image(validation), wanted)
        submitted = read_submitted(folder, {name for end in names for name in end}, self.work)

        def draw(dataset: Dataset, name: str) -> ReportedHand:
            gray, polygons = dataset.load(samples[name])
            return draw_hand(
                name,
                gray,
                submitted.runs(name, gray.size),
                limit=self.limit,
                truth=annotation.runs(polygons, gray.shape),
                dice={bone: dice for (image, bone), dice in validation.items() if image == name},
                flags=flags.get(name, ()),
            )

        known = samples.keys() & submitted.codes.keys()
        worst, best = (
            tuple(draw(self.dataset, name) for name in end if name in known) for end in names
        )
        return worst, best


def chosen_test_hands(names: Sequence[str], flagged: Sequence[str], wanted: int) -> list[str]:
    """Return at most `wanted` of `names`: first of the flagged ones, half of them at most."""
    known = set(names)
    first = [name for name in flagged if name in known][: wanted // 2]
    others = [name for name in names if name not in first]
    return [*first, *spread_evenly(others, wanted - len(first))]


def spread_evenly(names: Sequence[str], wanted: int) -> list[str]:
    """Return at most `wanted` of `names`, the first and the last among them, in order."""
    places = np.linspace(0, len(names) - 1, min(wanted, len(names))).round().astype(int)
    return [names[place] for place in places]


def ends(means: Mapping[str, float], wanted: int) -> tuple[list[str], list[str]]:
    """Return the names with the lowest means, lowest first, and the highest, highest first.

    They are `wanted` together, or all; of an odd number the lowest are one more.
    """
    ranked = sorted(means, key=lambda name: (means[name], name))
    wanted = min(wanted, len(ranked))
    num_best = wanted // 2
    best = ranked[len(ranked) - num_best :]
    return ranked[: wanted - num_best], best[::-1]


def read_submitted(folder: StepFolder, names: Collection[str], work: Path) -> Submitted:
    """Return the rows of `names` and the number of images; the CSV is not held in memory."""
    found, seen = Submitted(), ""
    with folder.submission(work) as path:
        for name, bone, code in submission.read(path):
            found.num_images += name != seen
            seen = name
            if name in names:
                found.codes.setdefault(name, {})[bone] = code
    return found


def name_of(sample: Sample) -> str:
    """Return what a submission calls a sample."""
    return sample.path.rpartition("/")[2]


def _by_name(samples: Sequence[Sample]) -> dict[str, Sample]:
    return {name_of(sample): sample for sample in samples}
