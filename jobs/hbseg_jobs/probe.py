"""The doctor's look from inside the cluster: what storage is like for a pod.

It is no step of a run. What it finds is a `DoctorReport` in the termination message.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hbseg import __version__
from hbseg.doctor.check import Check, failed, ok, warning
from hbseg.doctor.report import DoctorReport
from hbseg.doctor.storage import storage


def main(arguments: Sequence[str] | None = None) -> int:
    """Look, write what was found, and return 0 whatever it is."""
    parser = argparse.ArgumentParser(description="A look at storage from inside a pod.")
    parser.add_argument("--expect", required=True, help="version of hbseg that submits")
    parser.add_argument("--folder", action="append", default=[], metavar="NAME=URL")
    options = parser.parse_args(arguments)
    folders = {name: url for name, _, url in (item.partition("=") for item in options.folder)}
    report = DoctorReport(backend="pod", checks=tuple(look(options.expect, folders)))
    print(report.to_json().decode(), flush=True)
    if target := os.environ.get("HBSEG_TERMINATION_LOG"):
        Path(target).write_bytes(report.for_termination())
    return 0


def look(expected: str, folders: Mapping[str, str]) -> Iterator[Check]:
    """Yield what was found of the image and of storage."""
    here = f"hbseg {__version__} on Python {platform.python_version()}"
    if __version__ == expected:
        yield ok("image", here)
    else:
        fix = "use an image of the same version"
        yield warning("image", f"{here}, and {expected} submits", fix)
    if importlib.util.find_spec("torch") is None:
        yield failed("torch", "the image has none", "use an image with hbseg[ml]")
    if folders:
        yield from storage(folders)


if __name__ == "__main__":
    raise SystemExit(main())
