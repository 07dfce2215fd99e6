"""The runs as a whole: `list`, `cancel`, `delete`."""

import sys
from typing import TYPE_CHECKING, Any

import typer

from hbseg_cli import options
from hbseg_cli.groups import OUTPUT, SESSION, STORAGE, grouped
from hbseg_cli.output import Format, Result, document, say
from hbseg_cli.session import Session

if TYPE_CHECKING:
    from hbseg.runs.run import RunClaim, UnreadRun


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.command("list")(list_all)
    for command in (cancel, delete):
        parent.command()(command)


@grouped(session=STORAGE, output=OUTPUT)
def list_all(session: Session, output: Format) -> Result:
    """List the runs."""
    from hbseg.runs.run import list_runs

    items = [_item(found) for found in list_runs(session.runs())]
    if not items:
        say("no runs yet")
    for item in items:
        if item["problem"]:
            say(f"warning: run {item['name']} is not known: {item['problem']}")
    columns = ("name", "owner", "namespace", "created", "steps", "dice")
    rows = [{column: item[column] for column in columns} for item in items]
    for row, item in zip(rows, items, strict=True):
        row["steps"] = "unknown" if item["problem"] else _summary(item["steps"])
    names = [item["name"] for item in items]
    return Result(document("RunList", items=items), rows, names, output)


def _item(found: "RunClaim | UnreadRun") -> dict[str, Any]:
    """Return a run of the list, with the problem of one that this version cannot read."""
    from hbseg.runs.run import UnreadRun

    if not isinstance(found, UnreadRun):
        return {**found.to_mapping(), "problem": None}
    unknown = dict.fromkeys(("owner", "namespace", "data", "created"))
    known: dict[str, Any] = {"steps": {}, "dice": None, "problem": found.problem}
    return document("Run", name=found.name, **unknown, **known)


@grouped(session=SESSION)
def cancel(
    run: options.RunName, session: Session, owner: options.Owner = None, yes: options.Yes = False
) -> None:
    """Stop a run's active steps. Submitting again resumes from the last checkpoint."""
    from hbseg.control import verbs

    backend, of = session.backend(), session.run(run)
    active = verbs.active_tasks(backend, of, owner=owner)
    if active:
        _confirm(f"stop {', '.join(active)} of run {run}?", yes)
    else:
        say(f"nothing of run {run} is running")
    verbs.cancel(backend, of, active, owner=owner, tell=say)


@grouped(session=SESSION)
def delete(
    run: options.RunName, session: Session, owner: options.Owner = None, yes: options.Yes = False
) -> None:
    """Delete a run with all its results; refused while one of its steps is running."""
    from hbseg.control import verbs

    backend, of = session.backend(), session.run(run)
    found = verbs.deletable(backend, of, owner=owner)
    say(
        f"run {run} of {found.claim.owner}: {found.objects} objects, "
        f"{found.bytes / 1e6:.1f} MB in {of.folder.url}"
    )
    _confirm(f"delete run {run} with all its results?", yes)
    verbs.delete(backend, of, owner=owner)
    say(f"run {run} deleted")


def _summary(steps: dict[str, str]) -> str:
    by_state: dict[str, list[str]] = {}
    for step, state in steps.items():
        by_state.setdefault(state, []).append(step.partition("/")[0])
    return "; ".join(
        f"{state}: {','.join(dict.fromkeys(names))}" for state, names in by_state.items()
    )


def _confirm(question: str, yes: bool) -> None:
    from hbseg.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"confirmation required: {question}", "add -y")
    if not typer.confirm(question, err=True):
        raise typer.Abort
