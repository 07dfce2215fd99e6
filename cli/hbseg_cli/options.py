"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hbseg_cli.output import Format


def _dry_run(kind: str | None) -> str | None:
    """Return where a dry run is checked. Raises UsageError, before any cluster is asked."""
    from hbseg.errors import UsageError

    if kind not in (None, "client", "server"):
        raise UsageError(f"--dry-run={kind}: expected client or server")
    return kind


RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]
OptionalRunName = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Name of the run (HBSEG_RUN, else main).")
]
Backend = Annotated[
    str | None,
    typer.Option("--backend", metavar="kubernetes|local", help="Where steps run (HBSEG_BACKEND)."),
]
Namespace = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Namespace of the cluster.")
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the cluster.")]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="URL", help="Folder of the datasets (HBSEG_DATA)."),
]
Runs = Annotated[
    str | None, typer.Option("--runs", metavar="URL", help="Folder of the runs (HBSEG_RUNS).")
]
Output = Annotated[
    Format,
    typer.Option("-o", "--output", metavar="table|json|yaml|name", help="Output format."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=V", help="Set a value of the spec; repeatable."),
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="YAML merged over the default spec.")
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", metavar="base|demo|demo-bf16", help="Default specs: one GPU, or two CPU cores."
    ),
]
DryRun = Annotated[
    str | None,
    typer.Option(
        "--dry-run",
        metavar="client|server",
        callback=_dry_run,
        help="Print what would be started (bare: client).",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 100 if it failed.")]
Follow = Annotated[bool, typer.Option("--follow", help="Show the logs until the end.")]
Retries = Annotated[
    int | None, typer.Option("--retries", min=0, help="Further attempts after a failure.")
]
PendingTimeout = Annotated[
    float | None,
    typer.Option("--pending-timeout", metavar="SECONDS", help="Longest wait for the start."),
]
StallTimeout = Annotated[
    float | None,
    typer.Option(
        "--stall-timeout", metavar="SECONDS", help="Time without progress; then it starts again."
    ),
]
Shape = Annotated[
    str | None,
    typer.Option(
        "-j", metavar="NODESxGPUS", help="Nodes, and GPUs of each; infer takes nodes only."
    ),
]
Owner = Annotated[
    str | None,
    typer.Option("--owner", metavar="USER", help="Whose run it is, if it is another user's."),
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size-eval", metavar="B", min=1, help="Images of one call.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; default: one per core.")
]
