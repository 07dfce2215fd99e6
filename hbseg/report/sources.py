"""What other steps wrote, read into the report's values.

Lines and keys that a report can do without are passed over; figures that are no finite numbers
count as not measured.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from typing import Any, Final

from hbseg.anatomy import BONES
from hbseg.documents import load_yaml
from hbseg.errors import ContractError, SpecError
from hbseg.report.contents import Epoch
from hbseg.runs.results import Efficiency
from hbseg.runs.steps import Step

EVALUATION_HEADER: Final = [
    *("image_name", "class", "dice", "hd95_px", "surface_dice_1px", "surface_dice_2px"),
]


def epochs(text: bytes) -> tuple[Epoch, ...]:
    """Return the epochs of `metrics.jsonl` in order; of a repeated one, the last line counts."""
    found: dict[int, Epoch] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue  # a line that was cut off
        epoch = _epoch(values) if isinstance(values, dict) else None
        if epoch is not None:
            found[epoch.epoch] = epoch
    return tuple(found[number] for number in sorted(found))


def validation(text: bytes, *, source: str) -> dict[tuple[str, str], float]:
    """Return the Dice of `evaluation.csv` by image and bone.

    Raises:
        ContractError: another header than `EVALUATION_HEADER`, or a row that does not fit it.
    """
    reader = csv.reader(text.decode("utf-8", "replace").splitlines())
    header = next(reader, None)
    if header != EVALUATION_HEADER:
        expected = ",".join(EVALUATION_HEADER)
        raise ContractError(f"{source}: header is {header}, expected {expected}")
    found = {}
    for row in reader:
        value = _finite_text(row[2]) if len(row) == len(EVALUATION_HEADER) else math.inf
        if value == math.inf:
            raise ContractError(f"{source}, line {reader.line_num}: not image, bone and scores")
        if value is not None and row[1] in BONES:
            found[row[0], row[1]] = value
    return found


def init_from(spec: bytes, *, source: str) -> str | None:
    """Return the checkpoint folder that the spec of a stage names; None: it names none.

    Raises:
        ContractError: the spec is not YAML.
    """
    try:
        document = load_yaml(spec, source=source)
    except SpecError as error:
        raise ContractError(error.message, error.hint) from None
    named = document.get("init_from") if isinstance(document, dict) else None
    return named if isinstance(named, str) else None


def efficiency(text: bytes, *, source: str) -> Efficiency:
    """Return the document of an efficiency step.

    Raises:
        ContractError: it is another document, or one of an earlier version.
    """
    try:
        return Efficiency.from_text(text, source=source)
    except SpecError as error:
        raise ContractError(error.message, Step.EFFICIENCY.start_hint("RUN")) from None


def finite(value: object) -> float | None:
    """Return `value` as a float, or None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _epoch(values: Mapping[str, Any]) -> Epoch | None:
    number = finite(values.get("epoch"))
    if number is None:
        return None
    per_bone = values.get("dice_per_bone")
    measured = per_bone if isinstance(per_bone, dict) else {}
    by_bone = {bone: finite(measured.get(bone)) for bone in BONES}
    return Epoch(
        epoch=int(number),
        loss=finite(values.get("loss")),
        dice=finite(values.get("dice")),
        dice_per_bone={bone: value for bone, value in by_bone.items() if value is not None},
    )


def _finite_text(text: str) -> float | None:
    try:
        return finite(float(text))
    except ValueError:
        return math.inf
