"""Results of a run into local files: verified first, then put in place by one rename."""

from __future__ import annotations

from pathlib import Path

from hbseg.errors import ConflictError, ContractError, InvalidInput, NotFoundError
from hbseg.runs.chain import dataset_version
from hbseg.runs.results import FLAGS, Flags
from hbseg.runs.run import Run
from hbseg.runs.steps import Step, stage_step
from hbseg.storage.files import replacing
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import MARKER, Marker, read_marker, sha256_of_file
from hbseg.storage.store import Store, checked_key

SUBMISSION = Step.INFER.row.folders[0].name
"""Folder of the submission's CSV."""
_HINT = "choose another --to"


def fetch_submission(run: Run, data: Store, target: Path) -> Flags | None:
    """Download the submission of the run's test images into `target`, if it is valid.

    Its flags go beside it (`flags_beside`) and are returned; None: the run has none.

    Raises:
        NotFoundError: the run has none.
        InvalidInput: a row is wrong; the message has the first one, `target` is untouched.
        ContractError: the file is not the one that its marker lists.
    """
    from hbseg.data.dataset import open_version
    from hbseg.submission import Image, validate

    run.read()
    folder = run.folder.folder(SUBMISSION)
    marker = _marker(run, folder, Step.INFER.start_hint(run.name))
    dataset = open_version(data, dataset_version(run))
    images = [Image(s.path, s.height, s.width) for s in dataset.samples("test")]
    with replacing(target, hint=_HINT) as temporary:
        key = _only(marker, ".csv", folder)
        folder.download(key, temporary)
        problems = validate(temporary, images)
        if problems:  # before the checksum: a row tells more than a digest
            raise InvalidInput(
                f"submission of run {run.name} is not valid: {problems[0]}",
                f"{target} is untouched; see: hbseg logs {run.name} --step {Step.INFER}",
            )
        _verify(folder, marker, key, temporary)
        return _fetch_flags(folder, marker, target)


def flags_beside(csv: Path) -> Path:
    """Return where the flags of a fetched CSV are: `NAME.flags.json` for `NAME.csv`."""
    return csv.with_name(f"{csv.name.removesuffix('.csv')}.flags.json")


def fetch_report(run: Run, target: Path) -> None:
    """Download the run's report into `target`. Raises NotFoundError, ContractError."""
    run.read()
    folder = run.folder.folder(Step.REPORT)
    marker = _marker(run, folder, Step.REPORT.start_hint(run.name))
    with replacing(target, hint=_HINT) as temporary:
        _download(folder, marker, _only(marker, ".html", folder), temporary)


def fetch_checkpoint(run: Run, stage: int, target: Path) -> None:
    """Download the outputs of a finished stage into the folder `target`, its marker last.

    So the folder can be given as `--ckpt`. Raises NotFoundError, ContractError, ConflictError.
    """
    run.read()
    step = stage_step(stage)
    folder = run.folder.folder(step)
    marker = _marker(run, folder, step.start_hint(run.name))
    if target.is_dir() and any(target.iterdir()) and not (target / MARKER).exists():
        raise ConflictError(f"{target} is not empty and no checkpoint", _HINT)
    local = FolderStore(target)
    local.delete(MARKER)
    for key in sorted({*marker.outputs, *marker.records}):
        path = target / checked_key(key)  # what a marker says must stay below the target
        with replacing(path, hint=_HINT) as temporary:
            _download(folder, marker, key, temporary)
    local.put(MARKER, folder.get(MARKER))


def download_csv(folder: Store, target: Path) -> None:
    """Download `submission.csv` of a finished task's folder, verified, and its flags beside it."""
    marker = read_marker(folder)
    with replacing(target, hint=_HINT) as temporary:
        _download(folder, marker, _only(marker, ".csv", folder), temporary)
        _fetch_flags(folder, marker, target)


def _fetch_flags(folder: Store, marker: Marker, csv: Path) -> Flags | None:
    if FLAGS not in marker.outputs:
        flags_beside(csv).unlink(missing_ok=True)  # those of an earlier CSV
        return None
    with replacing(flags_beside(csv), hint=_HINT) as temporary:
        _download(folder, marker, FLAGS, temporary)
        return Flags.from_text(temporary.read_bytes(), source=f"{folder.url}/{FLAGS}")


def download_page(folder: Store, target: Path) -> None:
    """Download the report of pictures from a finished task's folder, verified."""
    marker = read_marker(folder)
    with replacing(target, hint=_HINT) as temporary:
        _download(folder, marker, _only(marker, ".html", folder), temporary)


def _marker(run: Run, folder: Store, hint: str) -> Marker:
    try:
        return read_marker(folder)
    except NotFoundError:
        step = folder.url.rpartition("/")[2]
        raise NotFoundError(f"run {run.name} has no finished {step}", hint) from None


def _only(marker: Marker, ending: str, folder: Store) -> str:
    """Return the key of the marker's main file with an ending."""
    listed = {**marker.outputs, **marker.records}
    for key in (f"submission{ending}", f"report{ending}"):
        if key in listed:
            return key
    raise NotFoundError(f"{folder.url}/{MARKER} lists no {ending} file", "run the step again")


def _download(folder: Store, marker: Marker, key: str, path: Path) -> None:
    folder.download(key, path)
    _verify(folder, marker, key, path)


def _verify(folder: Store, marker: Marker, key: str, path: Path) -> None:
    expected = {**marker.outputs, **marker.records}[key]
    found = sha256_of_file(path)
    if found != expected:
        raise ContractError(
            f"{folder.url}/{key} is damaged: sha256 is {found[:12]}..., its marker says "
            f"{expected[:12]}...",
            "run the step that wrote it again",
        )
