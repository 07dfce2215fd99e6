"""Preparing a raw set: a folder in this process, a set in S3 by a step of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hbseg.config.specs import PrepareSpec
from hbseg.control.waiting import Tell, say_nothing
from hbseg.errors import ConflictError, UsageError
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store

if TYPE_CHECKING:
    from hbseg.data.prepare import Prepared
    from hbseg.data.prepared import PreparedRecord


def raw_store(source: str, backend: str) -> Store | None:
    """Return a raw set that a step prepares; none for a folder, which is prepared here.

    Raises:
        UsageError: it is a URL of another kind, or a folder that the pods of the backend
            `kubernetes` would have to see.
    """
    if source.startswith("s3://"):
        return open_store(source)
    if "://" in source:
        raise UsageError(f"the raw set is {source[:200]}", "give a folder or s3://BUCKET/FOLDER")
    if backend == "kubernetes":
        raise UsageError(
            f"the raw set is the folder {source}, which pods cannot see",
            f"copy it to the bucket, e.g. aws s3 sync {source} s3://BUCKET/raw, and give that URL; "
            "or prepare it here with --backend local",
        )
    return None


def prepare_here(
    raw: Path,
    data: Store,
    spec: PrepareSpec,
    *,
    skip_bad: bool,
    workers: int,
    progress: Callable[[str, int, int], None],
    tell: Tell = say_nothing,
) -> Prepared:
    """Make a dataset version of a folder in this process; `tell` gets what was left out."""
    from hbseg.data.prepare import prepare

    prepared = prepare(raw, data, spec, skip_bad=skip_bad, workers=workers, progress=progress)
    for problem in prepared.left_out:
        tell(f"left out {problem.image}: {problem.message}")
    return prepared


def prepared_by_step(run: Run, raw: str, tell: Tell = say_nothing) -> PreparedRecord:
    """Return what a run's finished step prepare made of the raw set at the URL `raw`.

    Raises:
        ConflictError: it was of another set.
    """
    from hbseg.data.prepared import read_prepared

    record = read_prepared(run.folder.folder(Step.PREPARE))
    if record.raw != raw:
        raise ConflictError(
            f"the prepare that was running was of {record.raw}, not {raw}", "prepare it again now"
        )
    for picture in record.left_out:
        tell(f"left out {picture.image}: {picture.reason}")
    return record
