"""Entry of the step prepare: a raw set in storage becomes a dataset version.

What it leaves in its run only tells of this execution: the version has a marker of its own, which
trainings read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from hbseg.config.specs import PrepareSpec
from hbseg.data.prepare import prepare
from hbseg.data.prepared import PREPARED, PreparedRecord
from hbseg.data.raw_source import fetch
from hbseg.errors import InvalidInput, SpecError
from hbseg.runs.progress import Heartbeat
from hbseg.storage.markers import sha256_of
from hbseg.storage.opening import open_store
from hbseg.system.cpu import usable_threads
from hbseg_jobs.entry import StepContext, run_step

TELL_SECONDS = 10.0
"""Between two lines on how far the work is."""


def work(context: StepContext) -> None:
    """Fetch the raw set, prepare it with all cores, and write the record and the marker."""
    spec, url = context.spec(PrepareSpec), context.task.raw
    if url is None:
        raise SpecError("step prepare was started without --raw URL")
    tell = _Teller()
    _use_scratch(context.work / "tmp")
    raw = context.work / "raw"
    fetched = fetch(open_store(url), raw, progress=tell)
    print(f"fetched {fetched.files} files, {fetched.bytes:,} bytes; {fetched.kept} were here")
    with _named(raw, url):
        prepared = prepare(
            raw,
            context.data,
            spec,
            skip_bad=context.task.skip_bad,
            workers=usable_threads(),
            progress=tell,
        )
    _finish(context, PreparedRecord.of(prepared, raw=url))
    shutil.rmtree(raw)


def _finish(context: StepContext, record: PreparedRecord) -> None:
    for picture in record.left_out:
        print(f"left out {picture.image}: {picture.reason}")
    content = record.to_json()
    context.task.folder.put(PREPARED, content)
    counts = record.counts
    context.finish(
        {},
        records={PREPARED: sha256_of(content)},
        metrics={
            "images": counts.train_images + counts.test_images,
            **counts.model_dump(),
            "left_out": len({picture.image for picture in record.left_out}),
        },
    )
    print(f"version {record.version}{' (unchanged)' if record.unchanged else ''}")


@contextmanager
def _named(raw: Path, url: str) -> Iterator[None]:
    """Have refusals name the set as its owner knows it, not the copy of it that was read."""
    try:
        yield
    except InvalidInput as error:
        message = error.message.replace(str(raw), url)
        hint = error.hint
        if hint is not None and str(raw) in hint:
            hint = "check a copy with hbseg data check, or leave such pictures out with --skip-bad"
        raise type(error)(message, hint) from None


class _Teller:
    """Tells how far the work is: each bit to the launcher, and now and then a line."""

    _UNITS: ClassVar = {"fetch": "files", "check": "images", "prepare": "images"}

    def __init__(self) -> None:
        self._heartbeat = Heartbeat.of_environment()
        self._told: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell that `done` of `total` are finished."""
        self._heartbeat.beat(done, total, self._UNITS[what])
        now = time.monotonic()
        if done == total or now - self._told.setdefault(what, now) >= TELL_SECONDS:
            self._told[what] = now
            print(f"{what} {done}/{total}")


def _use_scratch(folder: Path) -> None:
    """Have shards in the making lie in `folder`: the /tmp of a pod is small."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def main() -> None:
    """Run the step and exit with its code."""
    run_step(work)


if __name__ == "__main__":
    main()
