"""`hbseg fetch-*`: results of a run into local files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hbseg_cli import options
from hbseg_cli.groups import OUTPUT, STORAGE, grouped
from hbseg_cli.output import Format, Result, document, say
from hbseg_cli.session import Session

if TYPE_CHECKING:
    from hbseg.runs.results import Flags

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
    """Download the submission, check every row, and only then put it into its file.

    The images that a human looks at first are written beside it, as NAME.flags.json.
    """
    from hbseg.control.fetch import fetch_submission as fetch
    from hbseg.control.fetch import flags_beside

    of = session.run(run)
    target = to or Path("submission.csv")
    flags = fetch(of, session.data(of.read()), target)
    if flags is None:
        return _fetched(of.name, target, output)
    fetched = _fetched(of.name, target, output, flags=str(flags_beside(target)))
    say(_flagged(flags))
    return fetched


def _flagged(flags: "Flags") -> str:
    if not flags.flagged:
        return f"none of {flags.images} images is flagged"
    first = flags.flagged[0]
    number = f"{len(flags.flagged)} of {flags.images} images are flagged"
    return f"{number}; the first: {first.image}: {first.flags[0].text}"


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


def _fetched(run: str, target: Path, output: Format, **further: str) -> Result:
    say(f"wrote {target}")
    content = {"run": run, "path": str(target), **further}
    return Result(document("Fetched", **content), names=[str(target)], format=output)
