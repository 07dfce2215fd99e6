"""A further step is one row of the table and one module: seen on a copy of the packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hbseg.documents import dump_yaml
from tests.integration.conftest import Local

ROOT = Path(__file__).resolve().parents[2]

ROW = """
    VOTE = (
        "vote",
        StepRow(
            spec=EfficiencySpec,
            config="vote",
            module="hbseg_jobs.vote",
            command="pipeline run {run}",
            folders=(Folder("vote", key="engine"),),
            inputs=(_ENGINE, StepInput("infer", folder="infer")),
        ),
    )
"""
MODULE = '''
"""A step that a test adds."""

from hbseg.config.specs import EfficiencySpec
from hbseg_jobs.entry import StepContext, run_step


def work(context: StepContext) -> None:
    spec = context.spec(EfficiencySpec)
    print(f"votes {spec.iterations} times on {context.input('infer').url}", flush=True)
    context.finish({}, metrics={"votes": spec.iterations})


if __name__ == "__main__":
    run_step(work)
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages with an eighth step in it."""
    tree = tmp_path / "tree"
    packages = {
        "hbseg": "hbseg",
        "hbseg_cli": "cli/hbseg_cli",
        "hbseg_jobs": "jobs/hbseg_jobs",
        "hbseg_manifests": "manifests",
    }
    for name, source in packages.items():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / source, tree / name, ignore=ignored)
    table = tree / "hbseg" / "runs" / "steps.py"
    before, report, after = table.read_text().partition("    REPORT = (\n")
    assert report, "the table has another form"
    table.write_text(f"{before}{ROW.lstrip(chr(10))}{report}{after}")
    (tree / "hbseg_jobs" / "vote.py").write_text(MODULE)
    return tree


class Hbseg:
    """The command line of a copy, over a run whose other steps are done."""

    def __init__(self, tree: Path, local: Local) -> None:
        self._tree = tree
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(tree),
            "HBSEG_BACKEND": "local",
            "HBSEG_DATA": local.data.url,
            "HBSEG_RUNS": str(local.folder / "runs"),
            "HBSEG_STATE": str(local.folder / "state"),
        }

    def __call__(self, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hbseg_cli", *arguments],
            cwd=self._tree,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def hbseg(tree: Path, local: Local) -> Hbseg:
    local.plant()
    return Hbseg(tree, local)


@pytest.fixture
def specs(local: Local) -> Path:
    """The specs with which the other steps were done."""
    path = local.folder / "specs.yaml"
    by_step = local.specs().by_step
    path.write_text(dump_yaml({str(step): spec.to_mapping() for step, spec in by_step.items()}))
    return path


def test_an_eighth_step_is_rendered_and_shown_by_its_row_alone(hbseg: Hbseg) -> None:
    bucket = {"HBSEG_DATA": "s3://team/data", "HBSEG_RUNS": "s3://team/runs"}
    flags = ("--run", "first", "--set", "iterations=7")

    spec, job = yaml.safe_load_all(hbseg("render", "vote", *flags, **bucket))
    shown = json.loads(hbseg("config", "show", "vote", "-o", "json"))

    assert "iterations: 7" in spec["data"]["spec.yaml"]
    assert (job["kind"], job["metadata"]["name"]) == ("Job", "first-vote-unresolved")
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--module") + 1] == "hbseg_jobs.vote"
    assert arguments[arguments.index("--prefix") + 1] == "vote/unresolved"
    assert "--input=engine=s3://team/runs/first/engine/unresolved" in arguments
    assert "--input=infer=s3://team/runs/first/infer" in arguments
    assert (shown["kind"], shown["iterations"]) == ("EfficiencySpec", 30)


@pytest.mark.parametrize(
    ("columns", "kind", "fields"),
    [
        ("shared=True", "Job", {"completionMode": "Indexed", "completions": 2}),
        ("torchrun=True, gpu=True", "PyTorchJob", {"nprocPerNode": "4"}),
    ],
)
def test_the_row_decides_how_an_eighth_step_runs_in_pods(
    hbseg: Hbseg, tree: Path, columns: str, kind: str, fields: dict[str, object]
) -> None:
    table, module = tree / "hbseg" / "runs" / "steps.py", 'module="hbseg_jobs.vote",'
    table.write_text(table.read_text().replace(module, f"{module} {columns},"))
    bucket = {"HBSEG_DATA": "s3://team/data", "HBSEG_RUNS": "s3://team/runs"}

    _, job = yaml.safe_load_all(hbseg("render", "vote", "--run", "first", "-j", "2x4", **bucket))

    assert job["kind"] == kind
    assert {name: job["spec"][name] for name in fields} == fields
    assert ('"nvidia.com/gpu": "4"' in json.dumps(job)) == ("gpu" in columns)


def changes(hbseg: Hbseg, specs: Path) -> dict[str, str]:
    """What a submit would do with each step; steps with several folders by the last one."""
    content = json.loads(hbseg("diff", "first", "--config", str(specs), "-o", "json"))
    return {step["step"]: step["change"] for step in content["steps"]}


def tasks(hbseg: Hbseg, step: str) -> list[dict[str, Any]]:
    content = json.loads(hbseg("status", "first", "-o", "json"))
    return [task for task in content["tasks"] if task["step"] == step]


def test_an_eighth_step_runs_in_the_chain_and_is_cleaned_up(
    hbseg: Hbseg, specs: Path, local: Local
) -> None:
    others = dict.fromkeys(
        ("stage1", "stage2", "compile", "infer", "efficiency", "report"), "unchanged"
    )
    assert changes(hbseg, specs) == {**others, "vote": "new", "report": "follows"}

    hbseg("pipeline", "run", "first", "--config", str(specs))

    (vote,) = tasks(hbseg, "vote")
    engines = {task["prefix"].partition("/")[2] for task in tasks(hbseg, "compile")}
    assert vote["state"] == "done"
    assert vote["prefix"].partition("/")[2] in engines
    assert changes(hbseg, specs) == {**others, "vote": "unchanged"}
    log = hbseg("logs", "first", "--step", "vote")
    assert log.endswith(f"votes 30 times on {local.run.folder.url}/infer\n")
    assert "vote" in hbseg("list")
    assert tasks(hbseg, "report")[0]["state"] == "done"

    assert hbseg("cancel", "first", "-y") == ""
    hbseg("delete", "first", "-y")

    assert list(local.run.folder.list()) == []
    assert not any((local.folder / "state").rglob("vote*"))
