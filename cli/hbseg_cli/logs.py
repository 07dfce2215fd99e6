"""`hbseg logs`: the lines of a step's ranks, also of what runs no longer."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from hbseg_cli import options
from hbseg_cli.groups import SESSION, grouped
from hbseg_cli.output import say, write
from hbseg_cli.session import Session

if TYPE_CHECKING:
    from hbseg.backend import Backend
    from hbseg.runs import Run


def add_to(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command()(logs)


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
    for phase in (Phase.RUNNING, Phase.PENDING, Phase.FAILED):
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
