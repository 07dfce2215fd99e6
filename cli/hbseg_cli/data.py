"""`hbseg data`: synthetic sets, checks, dataset versions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbseg.exit_codes import CommandExit
from hbseg_cli import options
from hbseg_cli.groups import (
    OUTPUT,
    SESSION,
    SUBMIT_OPTIONS,
    Group,
    SpecSource,
    SubmitOptions,
    grouped,
)
from hbseg_cli.output import Format, Result, document, progress, say
from hbseg_cli.session import Session

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
@grouped(place=PLACE, submit_options=SUBMIT_OPTIONS, output=OUTPUT)
def prepare(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Raw set: a folder, or s3://BUCKET/FOLDER.")
    ],
    place: Session,
    submit_options: SubmitOptions,
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
    from hbseg.control.prepare import raw_store
    from hbseg.errors import UsageError
    from hbseg.runs.steps import Step

    raw = raw_store(source, place.settings.need("backend"))
    if raw is None and submit_options.dry_run is not None:
        raise UsageError("--dry-run is for a set in S3", "see: hbseg data check SRC")
    spec = SpecSource(config, settings).spec(Step.PREPARE, PrepareSpec)
    if raw is None:
        return _prepared_here(Path(source), place, spec, output, skip_bad, workers)
    from hbseg_cli.submit import StepSubmitter

    submitter = StepSubmitter(place, submit_options, output)
    result = submitter.run(run, Step.PREPARE, spec, first=True, raw=raw.url, skip_bad=skip_bad)
    if submit_options.dry_run is not None or not submitter.waits:
        return result
    from hbseg.control.prepare import prepared_by_step

    return _result(prepared_by_step(place.run(run), raw.url, say), output)


def _prepared_here(
    raw: Path,
    session: Session,
    spec: "PrepareSpec",
    output: Format,
    skip_bad: bool,
    workers: int | None,
) -> Result:
    session.backend()  # refused here, before any work, where there is no such
    from hbseg.data.prepared import PreparedRecord

    prepared = prepare_folder(raw, session, spec, skip_bad=skip_bad, workers=workers)
    return _result(PreparedRecord.of(prepared, raw=str(raw)), output)


def _result(record: "PreparedRecord", output: Format) -> Result:
    counts = record.counts.model_dump()
    row = {"version": record.version, **counts, "unchanged": record.unchanged}
    return Result(record.to_mapping(), [row], [record.version], output)


def prepare_folder(
    raw: Path,
    session: Session,
    spec: "PrepareSpec",
    *,
    skip_bad: bool,
    workers: int | None = None,
) -> "Prepared":
    """Prepare a folder with a progress bar, and say which pictures are left out."""
    from hbseg.control.prepare import prepare_here

    with progress() as show:
        return prepare_here(
            raw,
            session.data(),
            spec,
            skip_bad=skip_bad,
            workers=_workers(workers),
            progress=show,
            tell=say,
        )


def _workers(number: int | None) -> int:
    from hbseg.system.cpu import usable_cores

    return usable_cores() if number is None else number
