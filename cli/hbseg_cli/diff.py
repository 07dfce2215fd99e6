"""`hbseg diff`: what a submit of a run would change."""

import typer

from hbseg_cli import options
from hbseg_cli.groups import OUTPUT, SESSION, SOURCE, SpecSource, SubmitOptions, grouped
from hbseg_cli.output import Format, Result, document
from hbseg_cli.session import Session


def add_to(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command()(diff)


@grouped(source=SOURCE, session=SESSION, output=OUTPUT)
def diff(
    source: SpecSource, session: Session, output: Format, run: options.OptionalRunName = None
) -> Result:
    """Show what `hbseg pipeline run` with these flags would change; nothing is started."""
    from hbseg.control.diff import run_diff
    from hbseg.runs.run import CLAIM

    placement = SubmitOptions().placement(session)
    specs = source.chain(offered=session.offered_engine(placement))
    of = session.run(run)
    data = session.data(of.read() if of.folder.exists(CLAIM) else None)
    found = run_diff(session.backend(), of, data, specs)
    steps = [
        {
            "step": item.step.value,
            "prefix": item.prefix,
            "change": item.change.value,
            "details": list(item.details),
        }
        for item in found
    ]
    rows = [
        {**step, "details": ", ".join(item.details)}
        for step, item in zip(steps, found, strict=True)
    ]
    content = document("RunDiff", name=of.name, steps=steps)
    names = [item.prefix or item.step.value for item in found if item.change != "unchanged"]
    return Result(content, rows, names, output)
