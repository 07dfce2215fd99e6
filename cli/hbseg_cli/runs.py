"""The runs as a whole: `list`, `cancel`, `delete`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from hbseg_cli import options
from hbseg_cli.groups import OUTPUT, SESSION, STORAGE, grouped
from hbseg_cli.output import Format, Result, document, say
from hbseg_cli.session import Session

if TYPE_CHECKING:
    from hbseg.errors import HbsegError
    from hbseg.runs.backend import Backend
    from hbseg.runs.run import Run, RunClaim


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.command("list")(list_all)
    for command in (cancel, delete):
        parent.command()(command)


@grouped(session=STORAGE, output=OUTPUT)
def list_all(session: Session, output: Format) -> Result:
    """List the runs."""
    from hbseg.runs.run import list_runs

    claims = list(list_runs(session.runs()))
    if not claims:
        say("no runs yet")
    rows = [
        {
            "name": claim.name,
            "owner": claim.owner,
            "namespace": claim.namespace,
            "created": claim.created,
            "steps": _summary(claim.steps),
            "dice": claim.dice,
        }
        for claim in claims
    ]
    items = [claim.to_mapping() for claim in claims]
    return Result(document("RunList", items=items), rows, [claim.name for claim in claims], output)


@grouped(session=SESSION)
def cancel(run: options.RunName, session: Session, yes: options.Yes = False) -> None:
    """Stop what runs of a run; it goes on from its last checkpoint when submitted again."""
    from hbseg.runs.attempts import summary_problem
    from hbseg.runs.backend import Phase
    from hbseg.runs.run import AT_WORK
    from hbseg.runs.states import TaskState
    from hbseg.runs.task import prefix_of, task_name

    where, of = session.backend(), session.run(run)
    claim = of.read()
    running = [
        name
        for name in where.tasks(of)
        if where.state(of, name).phase in (Phase.PENDING, Phase.RUNNING)
    ]
    prefixes = {task_name(prefix): prefix for prefix in claim.steps}
    if not running:
        _check_home(claim, where)
    if running:
        _confirm(f"stop {', '.join(running)} of run {run}?", yes)
    else:
        say(f"nothing of run {run} is running")
    stopped, missed = _stopped(where, of, running)
    if claim.namespace == where.namespace:
        # also what an execution that was lost has left in the summary
        stopped += [name for name, prefix in prefixes.items() if claim.steps[prefix] in AT_WORK]
    states = {prefixes.get(name, prefix_of(name)): TaskState.CANCELLED.value for name in stopped}
    if states and (problem := summary_problem(of, states)):
        say(problem)
    if missed is not None:
        raise missed


def _stopped(where: Backend, of: Run, running: list[str]) -> tuple[list[str], HbsegError | None]:
    """Cancel tasks, all of them; return which were stopped, and the first error."""
    from hbseg.errors import HbsegError

    stopped: list[str] = []
    missed: HbsegError | None = None
    for name in running:
        try:
            if where.cancel(of, name):
                stopped.append(name)
                say(f"{name} cancelled")
        except HbsegError as error:
            say(f"{name} not cancelled: {error}")
            missed = missed or error
    return stopped, missed


@grouped(session=SESSION)
def delete(run: options.RunName, session: Session, yes: options.Yes = False) -> None:
    """Delete a run with all its results; refused while something of it runs."""
    from hbseg.runs.run import CLAIM
    from hbseg.storage.markers import MARKER

    where, of = session.backend(), session.run(run)
    claim = of.read()
    _check_home(claim, where)
    _check_known(claim, where.tasks(of))
    sizes = [entry.size for entry in of.folder.list()]
    told = f"{len(sizes)} objects, {sum(sizes) / 1e6:.1f} MB in {of.folder.url}"
    say(f"run {run} of {claim.owner}: {told}")
    _confirm(f"delete run {run} with all its results?", yes)
    with where.exclusive(of):
        where.forget(of)
        # listed when nothing writes any more
        entries = list(of.folder.list())
        # markers first, so that no half of a result looks whole; the claim last, so that the
        # same command can finish what was cut off
        for key in sorted(
            (entry.key for entry in entries),
            key=lambda key: (key == CLAIM, not key.endswith(MARKER), key),
        ):
            of.folder.delete(key)
    say(f"run {run} deleted")


def _check_home(claim: RunClaim, where: Backend) -> None:
    """Refuse to look for what runs in another place than that of the run. Raises ConflictError."""
    from hbseg.errors import ConflictError

    if claim.namespace == where.namespace:
        return
    home = "--backend local" if claim.namespace == "local" else f"-n {claim.namespace}"
    raise ConflictError(
        f"run {claim.name} is at home in {claim.namespace}, this looks at {where.namespace}",
        f"give {home}",
    )


def _check_known(claim: RunClaim, tasks: list[str]) -> None:
    """Refuse to delete what another cluster may be at work on. Raises ConflictError."""
    from hbseg.errors import ConflictError
    from hbseg.runs.run import AT_WORK

    for prefix, state in claim.steps.items():
        if state in AT_WORK and prefix.replace("/", "-") not in tasks:
            raise ConflictError(
                f"{prefix} of run {claim.name} is said to be {state}, and nothing is known of it "
                f"in {claim.namespace}",
                f"give the right --context; if it was lost, first: hbseg cancel {claim.name}",
            )


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
        raise UsageError(f"not done without a yes: {question}", "add -y")
    if not typer.confirm(question, err=True):
        raise typer.Abort
