"""What other steps wrote, read into the report's values.

Lines and keys that a report can do without are passed over; figures that are no finite numbers
count as not measured.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hbseg.anatomy import BONES
from hbseg.documents import load_yaml
from hbseg.errors import ContractError, SpecError
from hbseg.report.contents import Epoch, Latency

EVALUATION_HEADER: Final = [
    *("image_name", "class", "dice", "hd95_px", "surface_dice_1px", "surface_dice_2px"),
]
MIB: Final = 1 << 20

_NAMELESS: Final = ("latency", "times", "percentiles")
"""Beginnings of keys between the name of what was timed and its percentiles."""


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


def latencies(document: Any) -> tuple[Latency, ...]:
    """Return a row for whatever has a `p50` in an efficiency document, the eager network first.

    Keys may carry a prefix or a unit (`latency_p50_ms`); the figure whose key
    has `peak` is memory, in MiB unless the key ends in `bytes`.
    """
    leaves = list(_leaves(document, ()))
    names = dict.fromkeys(_name(leaf.path) for leaf in leaves if "p50" in leaf.path[-1])
    rows = [_latency(name, [x for x in leaves if _belongs(x, name)]) for name in names]
    return tuple(sorted(rows, key=lambda row: "eager" not in row.name))


def finite(value: object) -> float | None:
    """Return `value` as a float, or None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class _Leaf:
    """A number in a document and the keys that lead to it."""

    path: tuple[str, ...]
    value: float


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


def _leaves(data: Any, path: tuple[str, ...]) -> Iterator[_Leaf]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _leaves(value, (*path, str(key)))
    else:
        value = finite(data)
        if value is not None and path:
            yield _Leaf(path, value)


def _name(path: tuple[str, ...]) -> str:
    named = [key for key in path[:-1] if not key.lower().startswith(_NAMELESS)]
    return named[-1] if named else "network"


def _belongs(leaf: _Leaf, name: str) -> bool:
    return name in leaf.path[:-1] or (name == "network" and _name(leaf.path) == name)


def _latency(name: str, leaves: list[_Leaf]) -> Latency:
    def first(word: str) -> float | None:
        return next((leaf.value for leaf in leaves if word in leaf.path[-1].lower()), None)

    peak = next((leaf for leaf in leaves if "peak" in leaf.path[-1].lower()), None)
    in_bytes = peak is not None and peak.path[-1].lower().endswith("bytes")
    memory = peak.value / (MIB if in_bytes else 1) if peak else None
    return Latency(name, first("p50"), first("p95"), first("p99"), memory)
