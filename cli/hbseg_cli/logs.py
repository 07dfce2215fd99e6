"""`hbseg logs`: the lines of a step's ranks, also of what runs no longer."""

import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from hbseg_cli import options
from hbseg_cli.groups import SESSION, grouped
from hbseg_cli.output import printable, say, write
from hbseg_cli.session import Session

if TYPE_CHECKING:
    from hbseg.runs.backend import Backend
    from hbseg.runs.run import Run


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
    from hbseg.control.verbs import tasks_for_logs
    from hbseg.errors import NotFoundError, UsageError
    from hbseg.runs.steps import Step, step_named

    if step is not None and step not in list(Step):
        raise UsageError(f"--step {step}: expected one of {', '.join(Step)}")
    where, of = session.backend(), session.run(run)
    after = None if since is None else _time_of(since)
    tasks = tasks_for_logs(where, of, None if step is None else step_named(step))
    without: list[NotFoundError] = []
    for task in tasks:
        say(f"== {task}", level=1)
        begin = _begin_of_tail(where, of, task, rank, tail) if follow and tail is not None else None
        try:
            lines = where.logs(of, task, rank=rank, follow=follow)
            _print(lines, max(after or "", begin or ""), None if follow else tail)
        except NotFoundError as error:
            without.append(error)
    if len(without) == len(tasks):
        raise without[0]
    for missing in without:
        say(str(missing))


def _begin_of_tail(backend: "Backend", run: "Run", task: str, rank: int | None, tail: int) -> str:
    """Return the time from which on a task's last lines are followed; empty: from the first."""
    from hbseg.errors import NotFoundError

    if tail == 0:
        return _time_of("0s")
    last: deque[str] = deque(maxlen=tail)
    with suppress(NotFoundError):  # it has not begun
        last.extend(backend.logs(run, task, rank=rank))
    return last[0].partition(" ")[0] if len(last) == tail else ""


def _print(lines: Iterator[str], after: str, tail: int | None) -> None:
    wanted = (line for line in lines if line.partition(" ")[0] >= after)
    for line in wanted if tail is None else deque(wanted, maxlen=tail):
        write(f"{printable(line) if sys.stdout.isatty() else line}\n")


def _time_of(text: str) -> str:
    """Return the time that `--since` means, as log lines carry it."""
    from hbseg.errors import UsageError
    from hbseg.system.clock import parse, z_time

    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
            moment = datetime.now(UTC) - timedelta(**{units[match[2]]: int(match[1])})
        else:
            moment = parse(text)
    except (ValueError, OverflowError):
        raise UsageError(f"--since {text}: expected 30s, 10m, 2h, 1d or an ISO time") from None
    return z_time(moment).removesuffix("Z")
