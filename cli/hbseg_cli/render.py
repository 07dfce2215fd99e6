"""`hbseg render`: the manifests of a step, and how a dry run prints them."""

from typing import TYPE_CHECKING, Annotated

import typer

from hbseg_cli.groups import (
    CHAIN_OPTIONS,
    OUTPUT,
    SESSION,
    SOURCE,
    Group,
    SpecSource,
    SubmitOptions,
    grouped,
)
from hbseg_cli.output import Format, Result, say
from hbseg_cli.session import Session
from hbseg_cli.submit import ENGINES, check_kind

if TYPE_CHECKING:
    from hbseg.cluster.objects import Manifest
    from hbseg.runs.steps import Step

PIPELINE = "pipeline"
PLACE = Group(
    {name: SESSION.flags[name] for name in ("namespace", "data", "runs")},
    lambda **flags: Session(flags, offline=True),
)
"""As `SESSION`, without what chooses a backend: manifests are for a cluster."""


def add_to(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command()(render)


@grouped(submit_options=CHAIN_OPTIONS, source=SOURCE, place=PLACE, output=OUTPUT)
def render(
    step: Annotated[str, typer.Argument(metavar="STEP", help=f"A step's name, or {PIPELINE}.")],
    submit_options: SubmitOptions,
    source: SpecSource,
    place: Session,
    output: Format,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Name of the run (HBSEG_RUN).")
    ] = None,
    raw: Annotated[
        str | None, typer.Option("--raw", metavar="URL", help="Raw set, for the step prepare.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="With --raw: leave out pictures with errors.")
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar=ENGINES, help="Kind of the engine that is made or run."),
    ] = None,
) -> Result:
    """Print the Kubernetes manifests of a step, for kubectl apply or for keeping.

    They are what a submit with --dry-run prints. Values that only storage knows are left open and
    listed on stderr.
    """
    from hbseg.control.rendering import (
        offline_step,
        runner_manifests,
        runner_notes,
        step_manifests,
        step_notes,
    )
    from hbseg.errors import UsageError
    from hbseg.runs.engines import engine_steps, has_engine
    from hbseg.runs.steps import Step

    wanted = _step(step)
    check_kind(engine)
    placement = submit_options.placement(place)
    offered = place.offered_engine(placement)
    if wanted is None:
        specs = source.with_engine(engine).chain(offered=offered)
        objects = runner_manifests(place.settings, run, specs, placement)
        say_notes(runner_notes(specs, placement))
        return manifest_result(objects, output)
    if engine is not None and not has_engine(wanted):
        names = ", ".join([*engine_steps(), PIPELINE])
        raise UsageError(f"--engine does not go with {wanted}", f"it goes with {names}")
    if (raw is not None) != (wanted == Step.PREPARE):
        raise UsageError("--raw goes with the step prepare, and prepare with --raw URL")
    compiled = engine if wanted == Step.COMPILE else None
    spec = source.spec(wanted, wanted.row.spec, offered=offered, engine=compiled)
    found = offline_step(
        place.settings, run, wanted, spec, placement, raw=raw, skip_bad=skip_bad, engine=engine
    )
    say_notes(step_notes(found, placement))
    return manifest_result(step_manifests(place.settings, found, placement), output)


def _step(name: str) -> "Step | None":
    """Return a step by its name, none for the pipeline. Raises UsageError."""
    from hbseg.documents import nearest
    from hbseg.errors import UsageError
    from hbseg.runs.steps import Step, step_named

    names = [*Step, PIPELINE]
    if name not in names:
        raise UsageError(f"no step {name!r:.60}; {nearest(name, names)}")
    return None if name == PIPELINE else step_named(name)


def say_notes(notes: list[str]) -> None:
    """Say what a person should know of manifests, a line for each sentence."""
    for note in notes:
        say(f"note: {note}")


def object_name(manifest: "Manifest") -> str:
    """Return an object's name as kubectl says it, e.g. `pytorchjob.kubeflow.org/main-stage1`."""
    group, name = manifest["apiVersion"].rpartition("/")[0], manifest["metadata"]["name"]
    kind = manifest["kind"].lower()
    return f"{kind}.{group}/{name}" if group else f"{kind}/{name}"


def manifest_result(objects: "list[Manifest]", form: Format) -> Result:
    """Return manifests as a YAML stream, as a list in JSON, or as names."""
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    names = [object_name(manifest) for manifest in objects]
    form = Format.YAML if form == Format.TABLE else form
    return Result(listed, names=names, format=form, stream=objects)
