"""The demo as a newcomer runs it, held to what the README promises. About 10 minutes on 2 cores."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

MIN_DICE = 0.90
MIN_POINTS = 0.75


def points_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("points", Path(__file__).parent / "points.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["points"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demo, with masks of the real radiographs where they are at hand."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    command = [sys.executable, "-m", "hbseg_cli", "demo", "--dir", str(folder), "-o", "json"]
    radiographs = os.environ.get("HBSEG_TEST_RADIOGRAPHS")
    if radiographs:
        command += ["--images", radiographs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "result.json").write_text(done.stdout)
    (folder / "told.txt").write_text(done.stderr)
    return folder


def test_unseen_synthetic_hands_are_found(demo: Path) -> None:
    assert json.loads((demo / "result.json").read_text())["dice"] >= MIN_DICE


def test_stage_2_is_better_than_stage_1(demo: Path) -> None:
    told = (demo / "told.txt").read_text()
    dice = [re.search(rf"{stage} +done in .*dice (0\.\d+)", told) for stage in ("stage1", "stage2")]
    first, second = (float(found[1]) for found in dice if found is not None)
    assert second > first + 0.01


def test_points_on_real_hands_are_in_the_right_bone_and_no_other(demo: Path) -> None:
    radiographs = os.environ.get("HBSEG_TEST_RADIOGRAPHS")
    assert radiographs, "set HBSEG_TEST_RADIOGRAPHS to the folder with the real radiographs"
    hits = points_module().points_hit(Path(radiographs), demo / "images.csv")
    right, points = sum(h.right for h in hits.values()), sum(h.points for h in hits.values())
    assert points > 400
    assert right / points >= MIN_POINTS
    assert len(list((demo / "overlays").glob("*.png"))) == 34


def test_nothing_of_the_demo_runs_on(demo: Path) -> None:
    commands = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if str(demo) in command] == []
