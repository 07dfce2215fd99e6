"""`hbseg doctor`: what works, what does not, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hbseg_cli import options
from hbseg_cli.groups import OUTPUT, SESSION, grouped
from hbseg_cli.output import Format, Result, say
from hbseg_cli.session import Session, placement_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hbseg.config.settings import Settings
    from hbseg.doctor.check import Check
    from hbseg.doctor.report import DoctorReport
    from hbseg.doctor.subject import Subject

MAX_PROBE = 24 * 3600
"""Seconds that a pod of the doctor may take to start and end."""


def add_to(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command()(doctor)


@grouped(session=SESSION, output=OUTPUT)
def doctor(
    session: Session,
    output: Format,
    in_cluster: Annotated[
        bool, typer.Option("--in-cluster", help="Look from a pod, too: image, keys, storage.")
    ] = False,
    limit: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=1, help="For --in-cluster: longest wait."),
    ] = 120.0,
    shape: options.Shape = None,
) -> Result:
    """Look at all that hbseg needs; exit 5 if anything fails, 4 if the cluster does not answer."""
    from hbseg.doctor.check import Status
    from hbseg.errors import InvalidInput, UsageError

    backend = session.settings.need("backend")
    if backend not in ("kubernetes", "local"):
        raise InvalidInput(f"backend {backend!r:.60} is not known", "use kubernetes or local")
    if not 1 <= limit <= MAX_PROBE:
        raise UsageError(f"--timeout {limit:g}: expected 1 to {MAX_PROBE} seconds")
    if backend == "local" and in_cluster:
        raise UsageError("--in-cluster needs a cluster", "leave it out, or --backend kubernetes")
    report = (
        _machine(session) if backend == "local" else _cluster(session, shape, in_cluster, limit)
    )
    rows: list[dict[str, Any]] = [
        {"status": c.status.value, "check": c.name, "message": c.message, "fix": c.fix}
        for c in report.checks
    ]
    counts = {status: sum(row["status"] == status for row in rows) for status in Status}
    say(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    names = [check.name for check in report.checks if check.status == Status.FAILED]
    return Result(report.to_mapping(), rows, names, output, exit_code=report.exit_code)


def _settings(session: Session) -> Settings:
    """Return the settings, those of the namespace too if it shows them; checks tell why not."""
    from hbseg.errors import HbsegError

    try:
        return session.shared
    except HbsegError:
        return session.settings


def _folders(settings: Settings) -> dict[str, str]:
    """Return the URLs of runs and data, where they are set."""
    named = {name: settings.get(name) for name in ("runs", "data")}
    return {name: url for name, url in named.items() if url is not None}


def _machine(session: Session) -> DoctorReport:
    from hbseg.doctor.examine import examine_machine
    from hbseg.local.backend import default_state

    state = session.settings.get("state")
    return examine_machine(Path(state) if state else default_state(), _folders(session.settings))


def _cluster(session: Session, shape: str | None, in_cluster: bool, limit: float) -> DoctorReport:
    from hbseg.cluster.requests.client import Cluster
    from hbseg.doctor.examine import examine_cluster

    settings = _settings(session)
    return examine_cluster(
        lambda: Cluster.connect(
            namespace=settings.get("namespace"), context=settings.get("context")
        ),
        placement_of(settings, shape),
        _folders(settings),
        probe=_probe(limit) if in_cluster else None,
    )


def _probe(limit: float) -> Callable[[Subject], Iterable[Check]]:
    from hbseg.doctor.pod_probe import probe

    return lambda subject: probe(subject, limit)
