"""Measure, print a table, write `bench.json`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.bench import listing, starting, submissions, submitting
from tests.bench.costs import ROOT
from tests.bench.figures import written
from tests.bench.place import s3_place

FILE = ROOT / "bench.json"


def main() -> None:
    tell_load("before")
    with tempfile.TemporaryDirectory(prefix="hbseg-bench-") as name:
        folder = Path(name)
        with s3_place(folder) as s3:
            figures = starting.figures(folder, s3)
            figures += listing.figures(folder, s3)
            figures += submitting.figures(folder, s3)
        figures += submissions.figures(folder / "csv")
        from tests.bench import inference  # torch; every process that draws hands imports this file

        figures += inference.figures(folder / "inference")
    print(written(figures, FILE))
    tell_load("after")


def tell_load(when: str) -> None:
    """Say how busy the machine is: figures of a busy one compare, but do not count."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"load {when}: {load} on {os.cpu_count()} cores", file=sys.stderr)


if __name__ == "__main__":
    main()
