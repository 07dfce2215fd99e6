"""CPU time of what does little: nearly all of it is Python's own, for imports."""

from __future__ import annotations

import sys
from pathlib import Path

from hbseg.runs.run import Run
from hbseg.storage.opening import open_store
from tests.bench.costs import Command, hbseg, medians
from tests.bench.figures import Figure
from tests.bench.place import Place

TIMES = 9
TIMES_OF_LIBRARIES = 3
LIBRARIES = "import segmentation_models_pytorch"
LOADED = f"""
from hbseg.system.startup import skip_gc_at_exit, gc_paused
skip_gc_at_exit()
with gc_paused():
    {LIBRARIES}
"""
RUN = "bench"
DRY_RUN = ("submit-train", "--stage", "1", "--run", RUN, "--dry-run")
STATUS = ("status", RUN, "--backend", "local")


def figures(folder: Path, s3: Place) -> list[Figure]:
    """Return the figures; `folder` is a new one for what the commands work on."""
    runs = str(folder / "runs")
    for url in (runs, s3.url):
        Run(open_store(url), RUN).claim(data=f"{url}-data")

    def command(*words: str) -> Command:
        return Command(hbseg(*words), s3.environment, folder)

    ours = {
        "hbseg --help": command("--help"),
        "hbseg submit-train --stage 1 --dry-run": command(
            *DRY_RUN, "--data", f"{s3.url}-data", "--runs", s3.url
        ),
        "hbseg status, local, runs in a folder": command(*STATUS, "--runs", runs),
        "hbseg status, local, runs in S3": command(*STATUS, "--runs", s3.url),
    }
    typer, python = (
        Command([sys.executable, "-c", code], s3.environment) for code in ("import typer", "")
    )
    costs = medians({**ours, "typer": typer, "python": python}, TIMES)
    baseline, floor = costs["typer"].cpu, costs["python"].cpu
    return [
        *(
            Figure(f"{name}: CPU (baseline: import typer)", "s", costs[name].cpu, baseline, floor)
            for name in ours
        ),
        _libraries(),
    ]


def _libraries() -> Figure:
    """Return what a training's libraries take, loaded as its processes do and plainly."""
    costs = medians(
        {name: Command([sys.executable, "-c", name]) for name in (LOADED, LIBRARIES)},
        TIMES_OF_LIBRARIES,
    )
    name = "a training's libraries: CPU (baseline: a plain import)"
    return Figure(name, "s", costs[LOADED].cpu, costs[LIBRARIES].cpu)
