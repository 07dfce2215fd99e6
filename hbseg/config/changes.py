"""What differs between two specs, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_NAMED = 3
"""Changes that one sentence names."""


def spec_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return `run.epochs: 3 -> 5` for each value that differs, in the order of `new`.

    A value that only one of them has is `none` in the other.
    """
    before, after = dict(_values(old)), dict(_values(new))
    return [
        f"{key}: {_told(before.get(key))} -> {_told(after.get(key))}"
        for key in dict.fromkeys([*after, *before])
        if before.get(key) != after.get(key)
    ]


def in_one_line(changes: list[str], most: int = MAX_NAMED) -> str:
    """Return the first changes, and how many more there are."""
    named = ", ".join(changes[:most])
    return f"{named} and {len(changes) - most} more" if len(changes) > most else named


def _values(mapping: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            found += _values(value, f"{path}{key}.")
        else:
            found.append((f"{path}{key}", value))
    return found


def _told(value: Any) -> str:
    return "none" if value is None else str(value)[:60]
