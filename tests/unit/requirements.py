"""The requirements of the project, and of the packages that are installed here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_FILE = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
BASE: list[str] = _FILE["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = _FILE["project"]["optional-dependencies"]
CONTROL: list[str] = _FILE["dependency-groups"]["control"]


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the names of the packages, and of all that they require on this machine.

    Raises:
        PackageNotFoundError: one of them is not installed.
    """
    found: dict[str, set[str]] = {}
    waiting = [(Requirement(text), {""}) for text in requirements]
    while waiting:
        requirement, extras = waiting.pop()
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        name, wanted = canonicalize_name(requirement.name), {"", *requirement.extras}
        if wanted <= found.get(name, set()):
            continue
        found[name] = found.get(name, set()) | wanted
        waiting += [(Requirement(text), wanted) for text in requires(name) or ()]
    return set(found)
