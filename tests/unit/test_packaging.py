from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.unit.requirements import BASE, EXTRAS, closure

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "hbseg": "hbseg",
    "hbseg_cli": "cli/hbseg_cli",
    "hbseg_jobs": "jobs/hbseg_jobs",
    "hbseg_manifests": "manifests",
}


def shipped(folder: Path) -> set[str]:
    """Names of all files below a package that must be in the wheel."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix()
        for path in files
        if path.suffix in (".py", ".yaml", ".typed", ".j2", ".css")
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "hbseg", "cli", "jobs", "manifests"):
        path = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignored)
        else:
            shutil.copy(path, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_a_wheel_has_every_module_and_config(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package, source in SOURCES.items():
        expected = {f"{package}/{name}" for name in shipped(ROOT / source)}
        assert expected
        assert expected - names == set()


def test_a_wheel_has_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(SOURCES)


def test_the_list_of_packages_is_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join((package, *path.parent.relative_to(ROOT / source).parts))
        for package, source in SOURCES.items()
        for path in (ROOT / source).rglob("__init__.py")
    }
    assert set(listed) == found


def test_every_tested_version_is_pinned_and_names_no_address() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 50
    assert all(line.count("==") == 1 and "/" not in line and "@" not in line for line in pins)


def test_whatever_an_installation_for_development_brings_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    named = [*BASE, *(text for extra in EXTRAS.values() for text in extra)]
    others = [text for text in named if not text.startswith("hbseg[")]

    assert closure(others) - pinned == set()
