"""Figures, as a table for people and as `bench.json` for others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hbseg_cli.output import table


@dataclass(frozen=True)
class Figure:
    """What something of ours costs, beside what else does the same."""

    name: str
    unit: str
    ours: float
    baseline: float | None = None
    """The plain way to the same end."""
    floor: float | None = None
    """What nobody can do without."""

    @property
    def ratio(self) -> float | None:
        """baseline / ours: above 1 is better than the plain way."""
        return None if self.baseline is None else self.baseline / self.ours

    def to_mapping(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}


def written(figures: Sequence[Figure], path: Path) -> str:
    """Write the figures to `path`; return them as a table."""
    rows = [
        {name: _rounded(value) for name, value in figure.to_mapping().items()} for figure in figures
    ]
    order = ("name", "unit", "ours", "baseline", "ratio", "floor")
    rows = [{name: row[name] for name in order} for row in rows]
    path.write_text(json.dumps(rows, indent=2) + "\n")
    return table(rows)


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
