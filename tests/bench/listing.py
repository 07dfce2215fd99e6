"""`hbseg list` over many runs, beside a plain loop and beside bare HTTP."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hbseg.runs.run import CLAIM, Run
from hbseg.storage.opening import open_store
from hbseg.storage.s3_connection import s3_client
from hbseg.storage.store import READERS, Store
from tests.bench.costs import Command, Cost, hbseg, medians
from tests.bench.figures import Figure
from tests.bench.place import BUCKET, Place

RUNS = 1000
TIMES = 5
STEPS = {"stage1": "done", "stage2": "done", "engine/0123456789abcdef": "done", "infer": "running"}


def figures(folder: Path, s3: Place) -> list[Figure]:
    """Return the figures; `folder` is a new one for what the commands work on."""
    url, of_folder = f"{s3.url}-listed", str(folder / "listed")
    for runs in (url, of_folder):
        fill(open_store(runs))
    addresses = folder / "addresses"
    addresses.write_text("\n".join(_addresses()))

    def module(name: str, *words: str) -> Command:
        return Command([sys.executable, "-m", f"tests.bench.{name}", *words], s3.environment)

    in_s3 = {
        "ours": Command(hbseg("list", "--runs", url), s3.environment, folder),
        "baseline": module("plain_boto3", BUCKET, "runs-listed/"),
        "floor": module("bare_http", str(addresses), str(READERS)),
    }
    in_folder = {
        "ours": Command(hbseg("list", "--runs", of_folder), s3.environment, folder),
        "baseline": module("plain_folder", of_folder),
    }
    return [
        *_figures(f"hbseg list, {RUNS} runs in S3", "a loop of get_object", medians(in_s3, TIMES)),
        *_figures(
            f"hbseg list, {RUNS} runs in a folder", "a loop of open", medians(in_folder, TIMES)
        ),
    ]


def fill(runs: Store) -> None:
    """Make the runs, as a team leaves them behind."""

    def make(number: int) -> None:
        run = Run(runs, _name(number))
        run.claim(data="s3://team/hands/data", namespace="team", owner="ann")
        run.summarise(steps=STEPS, dice=0.9 + number / 20_000)

    with ThreadPoolExecutor(READERS) as writers:
        list(writers.map(make, range(RUNS)))


def _name(number: int) -> str:
    return f"hands-{number:04d}"


def _addresses() -> list[str]:
    """Return a signed address of each claim: who asks for it has no signing to do."""
    client = s3_client()
    return [
        client.generate_presigned_url(
            "get_object", Params={"Bucket": BUCKET, "Key": f"runs-listed/{_name(number)}/{CLAIM}"}
        )
        for number in range(RUNS)
    ]


def _figures(name: str, plain: str, costs: Mapping[str, Cost]) -> list[Figure]:
    ours, baseline, floor = costs["ours"], costs["baseline"], costs.get("floor")
    return [
        Figure(
            f"{name}: wall (baseline: {plain})",
            "s",
            ours.wall,
            baseline.wall,
            floor.wall if floor else None,
        ),
        Figure(
            f"{name}: CPU (baseline: {plain})",
            "s",
            ours.cpu,
            baseline.cpu,
            floor.cpu if floor else None,
        ),
    ]
