"""`hbseg pipeline`: the whole chain of a run."""

from typing import TYPE_CHECKING, Annotated

import typer

from hbseg_cli import options
from hbseg_cli.data import prepare_folder
from hbseg_cli.groups import (
    CHAIN_OPTIONS,
    OUTPUT,
    SESSION,
    SOURCE,
    SpecSource,
    SubmitOptions,
    grouped,
)
from hbseg_cli.output import Format, Result, say
from hbseg_cli.session import Session
from hbseg_cli.status import status_result

if TYPE_CHECKING:
    from hbseg.control.pipeline import Event
    from hbseg.runs.run import Run
    from hbseg.runs.task import Task

app = typer.Typer(help="Run the whole chain of a run.", no_args_is_help=True)


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="pipeline")


@app.command("run")
@grouped(submit_options=CHAIN_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def run_pipeline(
    submit_options: SubmitOptions,
    source: SpecSource,
    session: Session,
    output: Format,
    run: options.OptionalRunName = None,
    raw: Annotated[
        str | None,
        typer.Option("--raw", metavar="RAW", help="Prepare this raw set first: folder or S3 URL."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="With --raw: leave out pictures with errors.")
    ] = False,
) -> Result:
    """Do what is not done yet: stage1, stage2, compile, infer, efficiency, report."""
    from hbseg.control.pipeline import Pipeline

    placement = submit_options.placement(session)
    specs = source.chain(offered=session.offered_engine(placement))
    where = session.backend()
    of, store = session.run(run), session.data()
    first = None if raw is None else _prepare(raw, of, session, source, skip_bad=skip_bad)
    pipeline = Pipeline(
        where, of, store, specs, placement=placement, prepare=first, on_event=tell, tell=say
    )
    try:
        pipeline.run()
    except KeyboardInterrupt:
        say(
            f"the active step keeps running; come back: hbseg pipeline run {of.name}, "
            f"stop it: hbseg cancel {of.name}"
        )
        raise
    say(f"next: hbseg fetch-submission {of.name}; hbseg fetch-report {of.name}")
    return status_result(where, of, output)


@app.command()
@grouped(session=SESSION, output=OUTPUT)
def status(run: options.RunName, session: Session, output: Format) -> Result:
    """Show how far the chain of a run is."""
    return status_result(session.backend(), session.run(run), output, whole_chain=True)


def _prepare(
    raw: str, run: "Run", session: Session, source: SpecSource, *, skip_bad: bool
) -> "Task | None":
    """Return the step that prepares a set in S3; a folder is prepared here and now."""
    from hbseg.config.specs import PrepareSpec
    from hbseg.control.prepare import prepare_first
    from hbseg.runs.steps import Step
    from hbseg.runs.task import Task

    spec = SpecSource(preset=source.preset).spec(Step.PREPARE, PrepareSpec)
    prepared = prepare_first(
        session.backend(),
        run,
        session.data(),
        raw,
        spec,
        skip_bad=skip_bad,
        here=lambda folder: prepare_folder(folder, session, spec, skip_bad=skip_bad),
    )
    if isinstance(prepared, Task):
        return prepared
    what = "unchanged" if prepared.unchanged else "done"
    say(f"{'prepare':<24} {what}  version {prepared.version}")
    return None


def tell(event: "Event") -> None:
    """Tell a person what happens in a pipeline, a line for each thing."""
    from hbseg.control.pipeline import Happening

    figures = ", ".join(f"{name} {value:.4g}" for name, value in sorted(event.metrics.items())[:4])
    words = {
        Happening.SKIPPED: "skipped: done and up to date",
        Happening.STARTED: "started",
        Happening.JOINED: "running already, waiting for it",
        Happening.PENDING: f"waits: {event.reason}",
        Happening.DONE: f"done in {event.seconds:.0f} s",
        Happening.FAILED: f"failed after {event.seconds:.0f} s: {event.reason}",
    }[event.happening]
    say(f"{event.task.prefix:<24} {words}" + (f"  ({figures})" if figures else ""))
