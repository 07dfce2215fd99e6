"""What is there and what runs: `list`, `status`, `logs`, `cancel`, `delete`."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hbseg_cli import options
from hbseg_cli.groups import OUTPUT, SESSION, STORAGE, grouped
from hbseg_cli.output import Format, Result, document, say, write
from hbseg_cli.session import Session

if TYPE_CHECKING:
    from hbseg.backend import Backend
    from hbseg.pipeline import TaskStatus
    from hbseg.runs import Run


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.command("list")(list_all)
    for command in (status, logs, cancel, delete):
        parent.command()(command)


@grouped(session=STORAGE, output=OUTPUT)
def list_all(session: Session, output: Format) -> Result:
    """List the runs."""
    from hbseg.runs import list_runs

    claims = list(list_runs(session.runs()))
    if not claims:
        say("no runs yet")
    rows = [
        {
            "name": claim.name,
            "owner": claim.owner,
            "created": claim.created,
            "steps": _summary(claim.steps),
            "dice": claim.dice,
        }
        for claim in claims
    ]
    items = [claim.to_mapping() for claim in claims]
    return Result(document("RunList", items=items), rows, [claim.name for claim in claims], output)


@grouped(session=SESSION, output=OUTPUT)
def status(run: options.RunName, session: Session, output: Format) -> Result:
    """Show the state of a run's steps."""
    return status_result(session.backend(), session.run(run), output)


@grouped(session=SESSION)
def logs(
    run: options.RunName,
    session: Session,
    step: Annotated[
        str | None, typer.Option("--step", help="Step; default: what runs, else the latest.")
    ] = None,
    rank: Annotated[int | None, typer.Option("--rank", min=0, help="One rank's lines.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until the end.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="30s, 10m, 2h, or an ISO time.")
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="Last lines.")
    ] = None,
) -> None:
    """Print the log lines of a step, each with its time; several ranks with their rank."""
    where, of = session.backend(), session.run(run)
    after = None if since is None else _time_of(since)
    for task in _tasks_for_logs(where, of, step):
        say(f"== {task}", level=1)
        lines = where.logs(of, task, rank=rank, follow=follow)
        _print(lines, after, None if follow else tail)


@grouped(session=SESSION)
def cancel(run: options.RunName, session: Session, yes: options.Yes = False) -> None:
    """Stop what runs of a run; it goes on from its last checkpoint when submitted again."""
    from hbseg.backend import Phase

    where, of = session.backend(), session.run(run)
    of.read()
    running = [
        name
        for name in where.tasks(of)
        if where.state(of, name).phase in (Phase.PENDING, Phase.RUNNING)
    ]
    if not running:
        say(f"nothing of run {run} is running")
        return
    _confirm(f"stop {', '.join(running)} of run {run}?", yes)
    for name in running:
        if where.cancel(of, name):
            say(f"{name} cancelled")


@grouped(session=SESSION)
def delete(run: options.RunName, session: Session, yes: options.Yes = False) -> None:
    """Delete a run with all its results; refused while something of it runs."""
    from hbseg.markers import MARKER
    from hbseg.runs import CLAIM

    where, of = session.backend(), session.run(run)
    of.read()
    entries = list(of.folder.list())
    size = sum(entry.size for entry in entries) / 1e6
    say(f"run {run}: {len(entries)} objects, {size:.1f} MB in {of.folder.url}")
    _confirm(f"delete run {run} with all its results?", yes)
    with where.exclusive(of):
        where.forget(of)
        # markers first, so that no half of a result looks whole; the claim last, so that the
        # same command can finish what was cut off
        for key in sorted(
            (entry.key for entry in entries),
            key=lambda key: (key == CLAIM, not key.endswith(MARKER), key),
        ):
            of.folder.delete(key)
    say(f"run {run} deleted")


def status_result(
    backend: Backend, run: Run, output: Format, *, whole_chain: bool = False
) -> Result:
    """Return the state of a run's tasks; with `whole_chain` also of steps not met yet."""
    from hbseg.pipeline import statuses
    from hbseg.steps import Step

    claim = run.read()
    found = statuses(backend, run, claim)
    rows = [_row(item) for item in found]
    if whole_chain:
        met = {item.step for item in found}
        rows += [
            {
                "step": step.value,
                "prefix": None,
                "state": "waiting",
                "attempt": None,
                "reason": None,
            }
            for step in Step
            if step not in met and step != Step.PREPARE
        ]
    content = document(
        "RunStatus",
        name=run.name,
        owner=claim.owner,
        data=claim.data,
        created=claim.created,
        dice=claim.dice,
        tasks=rows,
    )
    if not rows:
        say(f"run {run.name} has not started any step")
    return Result(content, rows, [str(row["prefix"] or row["step"]) for row in rows], output)


def _row(status: TaskStatus) -> dict[str, Any]:
    return {
        "step": status.step.value,
        "prefix": status.prefix,
        "state": str(status.state),
        "attempt": status.attempt or None,
        "reason": status.reason or None,
    }


def _summary(steps: dict[str, str]) -> str:
    by_state: dict[str, list[str]] = {}
    for step, state in steps.items():
        by_state.setdefault(state, []).append(step.partition("/")[0])
    return "; ".join(
        f"{state}: {','.join(dict.fromkeys(names))}" for state, names in by_state.items()
    )


def _tasks_for_logs(backend: Backend, run: Run, step: str | None) -> list[str]:
    """Return the names of the tasks whose logs are wanted."""
    from hbseg.attempts import step_of
    from hbseg.backend import Phase
    from hbseg.errors import NotFoundError, UsageError
    from hbseg.steps import Step

    if step is not None and step not in list(Step):
        raise UsageError(f"--step {step}: expected one of {', '.join(Step)}")
    claim = run.read()
    names = dict.fromkeys(prefix.replace("/", "-") for prefix in claim.steps)
    names |= dict.fromkeys(backend.tasks(run))
    if step is not None:
        names = {name: None for name in names if step_of(name) == step}
    if not names:
        raise NotFoundError(
            f"run {run.name} has no logs" + (f" of {step}" if step else ""),
            f"see: hbseg status {run.name}",
        )
    if step is not None:
        return list(names)
    phases = {name: backend.state(run, name).phase for name in names}
    for phase in (Phase.RUNNING, Phase.FAILED):
        chosen = [name for name in names if phases[name] == phase]
        if chosen:
            return chosen[-1:]
    return list(names)[-1:]


def _print(lines: Iterator[str], after: str | None, tail: int | None) -> None:
    wanted = (line for line in lines if after is None or line.partition(" ")[0] >= after)
    for line in wanted if tail is None else deque(wanted, maxlen=tail):
        write(f"{line}\n")


def _time_of(text: str) -> str:
    """Return the time that `--since` means, as log lines carry it."""
    from hbseg.errors import UsageError

    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        moment = datetime.now(UTC) - timedelta(**{units[match[2]]: int(match[1])})
    else:
        try:
            moment = datetime.fromisoformat(text).astimezone(UTC)
        except ValueError:
            raise UsageError(f"--since {text}: expected 30s, 10m, 2h, 1d or an ISO time") from None
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00")


def _confirm(question: str, yes: bool) -> None:
    from hbseg.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"not done without a yes: {question}", "add -y")
    if not typer.confirm(question, err=True):
        raise typer.Abort
