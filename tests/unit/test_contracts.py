"""The import contracts of pyproject.toml: what lists of theirs cannot see by themselves."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def contracts() -> dict[str, Any]:
    """The contracts by name."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {item["name"]: item for item in content["tool"]["importlinter"]["contracts"]}


def test_all_of_hbseg_but_the_ml_plane_is_kept_from_torch(contracts: dict[str, Any]) -> None:
    names = {path.stem for path in (ROOT / "hbseg").iterdir() if path.name != "py.typed"}
    parts = {f"hbseg.{name}" for name in names - {"ml"} if not name.startswith("_")}

    assert set(contracts["Only the ML plane imports torch"]["source_modules"]) == {
        *parts,
        "hbseg_cli",
    }
