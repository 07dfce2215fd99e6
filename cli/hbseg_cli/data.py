"""`hbseg data`: synthetic sets, checks, dataset versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbseg_cli import options
from hbseg_cli.output import Format, Result, document, progress, say
from hbseg_cli.session import Session, spec_of

if TYPE_CHECKING:
    from hbseg.data.prepare import Prepared
    from hbseg.specs import PrepareSpec

app = typer.Typer(help="Make, check and prepare data sets.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(metavar="SRC", help="Folder in the raw layout.")]


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
        exit_code=5 if errors else 0,
    )


@app.command()
def prepare(
    source: Source,
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="Folder of the datasets (HBSEG_DATA).")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out pictures with errors and list them.")
    ] = False,
    backend: options.Backend = None,
    workers: options.Workers = None,
    config: options.Config = None,
    settings: options.Set = None,
    output: options.Output = Format.TABLE,
) -> Result:
    """Make a dataset version of a raw set and make it the current one."""
    from hbseg.specs import PrepareSpec

    session = Session({"data": url, "backend": backend})
    session.backend()  # refused here, before any work, where it is not in this version
    spec = spec_of(PrepareSpec, "prepare", config=config, settings=settings)
    prepared = prepared_set(source, session, spec, skip_bad=skip_bad, workers=workers)
    counts = prepared.counts.model_dump()
    content = {
        "version": prepared.version,
        "unchanged": prepared.unchanged,
        "counts": counts,
        "leftOut": [problem.image for problem in prepared.left_out],
    }
    row = {"version": prepared.version, **counts, "unchanged": prepared.unchanged}
    return Result(document("Prepared", **content), [row], [prepared.version], output)


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
    from hbseg.processes import usable_cores

    return usable_cores() if number is None else number
