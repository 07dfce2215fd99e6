"""`hbseg fetch-*`: results of a run into local files."""

from pathlib import Path
from typing import Annotated

import typer

from hbseg_cli import options
from hbseg_cli.groups import OUTPUT, STORAGE, grouped
from hbseg_cli.output import Format, Result, document, say
from hbseg_cli.session import Session

To = Annotated[Path | None, typer.Option("--to", metavar="FILE", help="File to write.")]


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    for command in (fetch_submission, fetch_report, fetch_checkpoint):
        parent.command()(command)


@grouped(session=STORAGE, output=OUTPUT)
def fetch_submission(
    run: options.RunName,
    session: Session,
    output: Format,
    to: To = None,
) -> Result:
    """Download the submission, check every row, and only then put it into its file."""
    from hbseg.control.fetch import fetch_submission as fetch

    of = session.run(run)
    target = to or Path("submission.csv")
    fetch(of, session.data(of.read()), target)
    return _fetched(of.name, target, output)


@grouped(session=STORAGE, output=OUTPUT)
def fetch_report(
    run: options.RunName,
    session: Session,
    output: Format,
    to: To = None,
) -> Result:
    """Download the HTML report."""
    from hbseg.control.fetch import fetch_report as fetch

    of = session.run(run)
    target = to or Path("report.html")
    fetch(of, target)
    return _fetched(of.name, target, output)


@grouped(session=STORAGE, output=OUTPUT)
def fetch_checkpoint(
    run: options.RunName,
    session: Session,
    output: Format,
    stage: Annotated[int, typer.Option("--stage", min=1, max=2, help="1 or 2.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Folder; default RUN-stageN.")
    ] = None,
) -> Result:
    """Download a stage's checkpoint: its weights and what belongs to them."""
    from hbseg.control.fetch import fetch_checkpoint as fetch

    of = session.run(run)
    target = to or Path(f"{of.name}-stage{stage}")
    fetch(of, stage, target)
    return _fetched(of.name, target, output)


def _fetched(run: str, target: Path, output: Format) -> Result:
    say(f"wrote {target}")
    content = {"run": run, "path": str(target)}
    return Result(document("Fetched", **content), names=[str(target)], format=output)
