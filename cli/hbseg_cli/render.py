"""`hbseg render`: the manifests of a step, and what a dry run shares with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
from hbseg_cli.session import Session, chain_specs

if TYPE_CHECKING:
    from hbseg.cluster.objects import Manifest
    from hbseg.config.placement import Placement
    from hbseg.config.settings import Settings
    from hbseg.config.specs import Spec
    from hbseg.runs.step_call import StepCall
    from hbseg.runs.task import Step

PIPELINE = "pipeline"
STEPS = ("prepare", "stage1", "stage2", "compile", "infer", "efficiency", "report", PIPELINE)
PLACE = Group(
    {name: SESSION.flags[name] for name in ("namespace", "data", "runs")},
    lambda **flags: Session(flags),
)
"""As `SESSION`, without what chooses a backend: manifests are for a cluster."""


def add_to(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command()(render)


@grouped(options_=CHAIN_OPTIONS, source=SOURCE, place=PLACE, output=OUTPUT)
def render(
    step: Annotated[str, typer.Argument(metavar="STEP", help=f"A step's name, or {PIPELINE}.")],
    options_: SubmitOptions,
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
) -> Result:
    """Print the Kubernetes manifests of a step, for kubectl apply or for keeping.

    They are what a submit with --dry-run prints. What only storage knows stays open, and is told.
    """
    from hbseg.errors import UsageError
    from hbseg.runs.run import checked_run_name
    from hbseg.runs.task import Step

    _check_step(step)
    name = checked_run_name(run or place.settings.need("run"))
    if step == PIPELINE:
        return told(_runner(place, name, options_.placement, source), output)
    if (raw is not None) != (step == Step.PREPARE):
        raise UsageError("--raw goes with the step prepare, and prepare with --raw URL")
    spec = _spec(source, Step(step))
    extra = prepare_arguments(raw, skip_bad=skip_bad)
    call = outlined(place, name, Step(step), spec, extra, options_.placement)
    return told(step_objects(place, call, options_.placement), output)


def _check_step(step: str) -> None:
    from hbseg.errors import UsageError
    from hbseg.names import nearest

    if step not in STEPS:
        raise UsageError(f"no step {step!r:.60}; {nearest(step, STEPS)}")


def _spec(source: SpecSource, step: Step) -> Spec:
    from hbseg.config import specs
    from hbseg.runs.task import TRAINING

    if step in TRAINING:
        return source.spec(specs.TrainSpec, f"train_{step}", stage=int(step[-1]))
    kinds: dict[str, type[Spec]] = {
        "prepare": specs.PrepareSpec,
        "compile": specs.CompileSpec,
        "infer": specs.InferSpec,
        "efficiency": specs.EfficiencySpec,
        "report": specs.ReportSpec,
    }
    return source.spec(kinds[step], step)


def prepare_arguments(raw: str | None, *, skip_bad: bool) -> tuple[str, ...]:
    """Return the step prepare's own arguments, as `hbseg.runs.chain.prepare_task` makes them."""
    from hbseg.cluster.rendering.offline import canonical_url

    if raw is None:
        return ()
    return ("--raw", canonical_url(raw), *(("--skip-bad",) if skip_bad else ()))


def outlined(
    session: Session,
    run: str,
    step: Step,
    spec: Spec,
    extra: tuple[str, ...],
    placement: Placement,
) -> StepCall:
    """Return a step's call as far as it is known without storage, and tell what stays open.

    Raises:
        UsageError: the folders of runs or data are not given, or are of this machine.
    """
    from hbseg.cluster.rendering.manifests import check_storage, storage_of
    from hbseg.cluster.rendering.offline import offline_call

    settings = session.settings
    data, runs = settings.need("data"), settings.need("runs")
    found = offline_call(run, step, spec, runs=runs, data=data, extra=extra)
    check_storage(storage_of(found.call), placement.cluster)
    for sentence in found.open:
        say(f"note: {sentence}")
    return found.call


def step_objects(session: Session, call: StepCall, placement: Placement) -> list[Manifest]:
    """Return the manifests of a step in the session's namespace, if it names one."""
    from hbseg.cluster.rendering.manifests import job_objects

    return job_objects(call, placement, namespace=session.settings.get("namespace"))


def _runner(session: Session, run: str, placement: Placement, source: SpecSource) -> list[Manifest]:
    from hbseg.cluster.rendering.manifests import check_storage, runner_objects
    from hbseg.runs.run import current_user

    specs = chain_specs(config=source.config, settings=source.settings, variant=source.variant)
    mapping = {name: spec.to_mapping() for name, spec in vars(specs).items()}
    settings = session.settings
    of_runner = _runner_settings(settings, placement)
    check_storage([of_runner["data"], of_runner["runs"]], placement.cluster)
    return runner_objects(
        run,
        mapping,
        of_runner,
        placement,
        owner=current_user(),
        namespace=settings.get("namespace"),
    )


def _runner_settings(settings: Settings, placement: Placement) -> dict[str, Any]:
    """Return the `hbseg.yaml` of a runner: storage as here, and the profile that applies here."""
    from hbseg.cluster.rendering.offline import canonical_url

    namespace = settings.get("namespace")
    return {
        "apiVersion": "hbseg/v1",
        "kind": "Settings",
        "backend": "kubernetes",
        "data": canonical_url(settings.need("data")),
        "runs": canonical_url(settings.need("runs")),
        **({} if namespace is None else {"namespace": namespace}),
        "cluster": placement.cluster.model_dump(mode="json", exclude_none=True),
    }


def named(manifest: Manifest) -> str:
    """Return an object's name as kubectl says it, e.g. `pytorchjob.kubeflow.org/main-stage1`."""
    group, name = manifest["apiVersion"].rpartition("/")[0], manifest["metadata"]["name"]
    kind = manifest["kind"].lower()
    return f"{kind}.{group}/{name}" if group else f"{kind}/{name}"


def told(objects: list[Manifest], form: Format) -> Result:
    """Return manifests as a YAML stream, as a list in JSON, or as names."""
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    names = [named(manifest) for manifest in objects]
    form = Format.YAML if form == Format.TABLE else form
    return Result(listed, names=names, format=form, stream=objects)
