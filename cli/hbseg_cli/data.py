"""`hbseg data`: synthetic sets, checks, dataset versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbseg.exit_codes import CommandExit
from hbseg_cli import options
from hbseg_cli.groups import OUTPUT, SESSION, SUBMIT_OPTIONS, Group, SubmitOptions, grouped
from hbseg_cli.output import Format, Result, document, progress, say
from hbseg_cli.session import Session, spec_of

if TYPE_CHECKING:
    from hbseg.config.specs import PrepareSpec
    from hbseg.data.prepare import Prepared
    from hbseg.data.prepared import PreparedRecord

app = typer.Typer(help="Make, check and prepare data sets.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(metavar="SRC", help="Folder in the raw layout.")]
Datasets = Annotated[
    str | None, typer.Argument(metavar="URL", help="Folder of the datasets (HBSEG_DATA).")
]
PLACE = Group(
    {
        "url": (Datasets, None),
        **{name: flag for name, flag in SESSION.flags.items() if name != "data"},
    },
    lambda url, **flags: Session({"data": url, **flags}),
)
"""As `SESSION`, the folder of the datasets as an argument."""


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="data")


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    hands: Annotated[int, typer.Option("--hands", help="Training pictures; an even number.")] = 64,
    test_hands: Annotated[
        int, typer.Option("--test-hands", help="Test pictures; an even number.")
    ] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same hands.")] = 0,
    workers: options.Workers = None,
    output: options.Output = Format.TABLE,
) -> Result:
    """Write synthetic hands in the raw layout, with the truth of the test hands beside them."""
    from hbseg.data.synth import write_raw_set

    with progress() as show:
        write_raw_set(
            out,
            hands=hands,
            test_hands=test_hands,
            seed=seed,
            workers=_workers(workers),
            progress=lambda done, total: show("hands", done, total),
        )
    say(f"{hands} training and {test_hands} test hands in {out}")
    content = {"path": str(out), "hands": hands, "testHands": test_hands, "seed": seed}
    return Result(document("SyntheticSet", **content), names=[str(out)], format=output)


@app.command()
def check(
    source: Source, workers: options.Workers = None, output: options.Output = Format.TABLE
) -> Result:
    """Find what is wrong with a raw set; exit 5 if any finding is an error."""
    from hbseg.data.check import check as check_set

    with progress() as show:
        report = check_set(source, workers=_workers(workers), progress=show)
    problems = [
        {"severity": p.severity, "image": p.image, "rule": p.rule, "message": p.message}
        for p in report.problems
    ]
    errors = len(report.errors)
    say(f"{report.images} images: {errors} errors, {len(problems) - errors} warnings")
    return Result(
        report.to_mapping(),
        problems,
        sorted({p.image for p in report.problems}),
        output,
        exit_code=CommandExit.REFUSED if errors else CommandExit.DONE,
    )


@app.command()
@grouped(place=PLACE, options_=SUBMIT_OPTIONS, output=OUTPUT)
def prepare(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Raw set: a folder, or s3://BUCKET/FOLDER.")
    ],
    place: Session,
    options_: SubmitOptions,
    output: Format,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Name of the run (HBSEG_RUN).")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out pictures with errors and list them.")
    ] = False,
    workers: options.Workers = None,
    config: options.Config = None,
    settings: options.Set = None,
) -> Result:
    """Make a dataset version of a raw set and make it the current one.

    A folder is prepared here, with --backend local. A set in S3 is prepared by a step of the run,
    here or in the cluster.
    """
    from hbseg.config.specs import PrepareSpec

    in_s3 = source.startswith("s3://")
    if not in_s3:
        check_folder(source, place)
        _check_dry_run(options_)
    spec = spec_of(PrepareSpec, "prepare", config=config, settings=settings)
    if in_s3:
        return _submitted(place, options_, output, source, spec, run=run, skip_bad=skip_bad)
    place.backend()  # refused here, before any work, where there is no such
    from hbseg.data.prepared import PreparedRecord

    prepared = prepared_set(Path(source), place, spec, skip_bad=skip_bad, workers=workers)
    return _result(PreparedRecord.of(prepared, raw=source), output)


def check_folder(source: str, session: Session) -> None:
    """Refuse a raw set that is no folder of this machine, or one that pods would have to see.

    Raises:
        UsageError: it is a URL of another kind, or the backend is a cluster.
    """
    from hbseg.errors import UsageError

    if "://" in source:
        raise UsageError(f"the raw set is {source[:200]}", "give a folder or s3://BUCKET/FOLDER")
    if session.settings.need("backend") == "kubernetes":
        raise UsageError(
            f"the raw set is the folder {source}, which pods cannot see",
            f"copy it to the bucket, e.g. aws s3 sync {source} s3://BUCKET/raw, and give that URL; "
            "or prepare it here with --backend local",
        )


def _check_dry_run(options_: SubmitOptions) -> None:
    from hbseg.errors import UsageError

    if options_.dry_run is not None:
        raise UsageError("--dry-run is for a set in S3", "see: hbseg data check SRC")


def _submitted(
    session: Session,
    options_: SubmitOptions,
    output: Format,
    source: str,
    spec: PrepareSpec,
    *,
    run: str | None,
    skip_bad: bool,
) -> Result:
    """Start the step; where its end was waited for, return what it made."""
    from hbseg.runs.chain import prepare_task
    from hbseg.runs.task import Step
    from hbseg.storage.store import open_store
    from hbseg_cli.render import prepare_arguments
    from hbseg_cli.submit import _Verb

    verb = _Verb(session, options_, output)
    if options_.dry_run is not None:
        extra = prepare_arguments(source, skip_bad=skip_bad)
        return verb.dry_run(run, Step.PREPARE, spec, extra=extra)
    raw = open_store(source)
    result = verb.submit(
        run, lambda of, data: prepare_task(of, spec, raw, skip_bad=skip_bad), claim=True
    )
    return _made(session, run, raw.url, output) if options_.wait or options_.follow else result


def _made(session: Session, run: str | None, raw: str, output: Format) -> Result:
    """Return what the run's prepare made, if it was from the set at `raw`."""
    from hbseg.data.prepared import read_prepared
    from hbseg.errors import ConflictError
    from hbseg.runs.task import Step

    record = read_prepared(session.run(run).folder.folder(Step.PREPARE))
    if record.raw != raw:
        raise ConflictError(
            f"the prepare that was running was of {record.raw}, not {raw}", "prepare it again now"
        )
    for picture in record.left_out:
        say(f"left out {picture.image}: {picture.reason}")
    return _result(record, output)


def _result(record: PreparedRecord, output: Format) -> Result:
    counts = record.counts.model_dump()
    row = {"version": record.version, **counts, "unchanged": record.unchanged}
    return Result(record.to_mapping(), [row], [record.version], output)


def prepared_set(
    raw: Path,
    session: Session,
    spec: PrepareSpec,
    *,
    skip_bad: bool,
    workers: int | None = None,
) -> Prepared:
    """Prepare a raw set with a progress bar, and tell which pictures were left out."""
    from hbseg.data.prepare import prepare as prepare_set

    with progress() as show:
        prepared = prepare_set(
            raw,
            session.data(),
            spec,
            skip_bad=skip_bad,
            workers=_workers(workers),
            progress=show,
        )
    for problem in prepared.left_out:
        say(f"left out {problem.image}: {problem.message}")
    return prepared


def _workers(number: int | None) -> int:
    from hbseg.system.cpu import usable_cores

    return usable_cores() if number is None else number
