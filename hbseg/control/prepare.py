"""Preparing a raw set: a folder in this process, a set in S3 by a step of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hbseg.config.specs import PrepareSpec
from hbseg.control.waiting import Tell, say_nothing
from hbseg.errors import ConflictError, UsageError
from hbseg.runs.backend import Backend
from hbseg.runs.chain import make_task
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
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


def prepare_first(
    backend: Backend,
    run: Run,
    data: Store,
    raw: str,
    spec: PrepareSpec,
    *,
    skip_bad: bool,
    here: Callable[[Path], Prepared],
) -> Task | Prepared:
    """Prepare a raw set before a run's chain.

    Args:
        backend: where the chain runs.
        run: the run.
        data: folder of the datasets.
        raw: a folder, or `s3://BUCKET/FOLDER`.
        spec: spec of the step prepare.
        skip_bad: whether pictures with errors are left out.
        here: prepares a folder in this process (see `prepare_here`).

    Returns:
        For a set in S3 the task that prepares it, to be run first; for a folder, which is prepared
        at once, what was made.

    Raises:
        UsageError: as `raw_store`.
        InvalidInput: the folder's pictures have errors.
        ConflictError: the run is somebody else's.
    """
    in_s3 = raw_store(raw, backend.name)
    if in_s3 is not None:
        return make_task(run, data, Step.PREPARE, spec, raw=in_s3, skip_bad=skip_bad)
    run.claim(data=data.url, namespace=backend.namespace)
    return here(Path(raw))


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
