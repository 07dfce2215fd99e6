"""`hbseg events`: what happened to a run, in storage and on the cluster."""

import typer

from hbseg_cli import options
from hbseg_cli.groups import OUTPUT, SESSION, grouped
from hbseg_cli.output import Format, Result, document, say
from hbseg_cli.session import Session


def add_to(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command()(events)


@grouped(session=SESSION, output=OUTPUT)
def events(run: options.RunName, session: Session, output: Format) -> Result:
    """Show what happened to a run, newest last: attempts, and what the cluster tells."""
    from hbseg.control.events import run_events

    found = run_events(session.backend(), session.run(run))
    rows = [
        {
            "time": event.time,
            "about": event.about,
            "type": event.kind,
            "reason": event.reason,
            "count": event.count,
            "message": event.message,
        }
        for event in found
    ]
    if not rows:
        say(f"nothing is known to have happened to run {run}")
    content = document("RunEvents", name=run, items=rows)
    return Result(content, rows, [str(row["reason"]) for row in rows], output)
