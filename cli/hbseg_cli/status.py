"""`hbseg status`: the state of a run's steps, each with one line that says why."""

from typing import TYPE_CHECKING, Any

import typer

from hbseg_cli import options
from hbseg_cli.groups import OUTPUT, SESSION, grouped
from hbseg_cli.output import Format, Result, document, say
from hbseg_cli.session import Session

if TYPE_CHECKING:
    from hbseg.control.status import TaskStatus
    from hbseg.runs.backend import Backend
    from hbseg.runs.progress import ProgressReport
    from hbseg.runs.run import Run


def add_to(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command()(status)


@grouped(session=SESSION, output=OUTPUT)
def status(run: options.RunName, session: Session, output: Format) -> Result:
    """Show the state of a run's steps."""
    return status_result(session.backend(), session.run(run), output)


def status_result(
    backend: "Backend", run: "Run", output: Format, *, whole_chain: bool = False
) -> Result:
    """Return the state of a run's tasks; with `whole_chain` also of steps not met yet."""
    from hbseg.control.status import not_met, statuses

    claim = run.read()
    found = statuses(backend, run, claim)
    rows = [_row(item) for item in found]
    if whole_chain:
        rows += [{**_row(item), "prefix": None} for item in not_met(found)]
    content = document(
        "RunStatus",
        name=run.name,
        owner=claim.owner,
        namespace=claim.namespace,
        data=claim.data,
        created=claim.created,
        dice=claim.dice,
        tasks=rows,
    )
    if claim.namespace != backend.namespace:
        say(
            f"run {run.name} belongs to namespace {claim.namespace}; "
            f"you are using {backend.namespace}"
        )
    if not rows:
        say(f"run {run.name} has not started any step")
    table = [{key: row[key] for key in row if key != "progress"} for row in rows]
    return Result(content, table, [str(row["prefix"] or row["step"]) for row in rows], output)


def _row(status: "TaskStatus") -> dict[str, Any]:
    return {
        "step": status.step.value,
        "prefix": status.prefix,
        "state": status.state.value,
        "attempt": status.attempt or None,
        "reason": status.reason or None,
        "progress": None if status.progress is None else _progress(status.progress),
    }


def _progress(report: "ProgressReport") -> dict[str, Any]:
    fields = report.to_mapping()
    left = report.seconds_left
    return {
        **{name: fields[name] for name in fields if name not in ("apiVersion", "kind")},
        "seconds_left": None if left is None else round(left),
    }
