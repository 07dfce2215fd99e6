"""The verbs that start one step: `submit-train`, `submit-compile` and the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hbseg_cli import options
from hbseg_cli.output import Format, Result, document, say
from hbseg_cli.session import Session, placement_of, spec_of

if TYPE_CHECKING:
    from hbseg.placement import Placement
    from hbseg.runs import Run
    from hbseg.specs import Spec
    from hbseg.steps import Step, Task
    from hbseg.store import Store


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    for command in (submit_train, submit_compile, submit_infer, submit_efficiency, submit_report):
        parent.command()(command)


def submit_train(
    stage: Annotated[int, typer.Option("--stage", min=1, max=2, help="1 or 2.")],
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Name of the run (HBSEG_RUN).")
    ] = None,
    ckpt: Annotated[
        str | None,
        typer.Option("--ckpt", metavar="URL", help="Checkpoint folder that stage 2 starts from."),
    ] = None,
    shape: options.Shape = None,
    config: options.Config = None,
    settings: options.Set = None,
    dry_run: options.DryRun = None,
    wait: options.Wait = False,
    follow: options.Follow = False,
    retries: options.Retries = None,
    pending_timeout: options.PendingTimeout = None,
    backend: options.Backend = None,
    namespace: options.Namespace = None,
    context: options.Context = None,
    data: options.Data = None,
    runs: options.Runs = None,
    output: options.Output = Format.TABLE,
) -> Result:
    """Train a stage; stage 2 starts from the run's stage 1 unless --ckpt names a checkpoint."""
    from hbseg.errors import UsageError
    from hbseg.pipeline import pinned, stage_task
    from hbseg.specs import TrainSpec
    from hbseg.steps import TRAINING

    if ckpt is not None and stage == 1:
        raise UsageError("--ckpt is for stage 2", "stage 1 takes --set model.encoder_weights=URL")
    spec = spec_of(
        TrainSpec,
        f"train_stage{stage}",
        config=config,
        settings=settings,
        flags={"stage": stage, "init_from": ckpt},
    )
    verb = _Verb(
        Session(_flags(backend, namespace, context, data, runs)),
        placement_of(shape, retries, pending_timeout),
        wait=wait,
        follow=follow,
        format=output,
    )
    if dry_run is not None:
        return verb.dry_run(dry_run, run, TRAINING[stage - 1], spec)
    return verb.submit(run, lambda of, data: stage_task(of, data, pinned(spec, data)), claim=True)


def submit_compile(
    run: options.RunName,
    batch_size: options.BatchSize = None,
    optimization_level: Annotated[
        int | None, typer.Option("--optimization-level", min=0, max=5, help="Effort, 0 to 5.")
    ] = None,
    tensorrt_device: Annotated[
        str | None, typer.Option("--tensorrt-device", metavar="D", help="GPU model.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", metavar="tensorrt|onnx", help="Kind of engine.")
    ] = None,
    config: options.Config = None,
    settings: options.Set = None,
    dry_run: options.DryRun = None,
    wait: options.Wait = False,
    follow: options.Follow = False,
    retries: options.Retries = None,
    pending_timeout: options.PendingTimeout = None,
    backend: options.Backend = None,
    namespace: options.Namespace = None,
    context: options.Context = None,
    data: options.Data = None,
    runs: options.Runs = None,
    output: options.Output = Format.TABLE,
) -> Result:
    """Make an engine of the run's stage 2."""
    from hbseg.pipeline import compile_task
    from hbseg.specs import CompileSpec
    from hbseg.steps import Step

    spec = spec_of(
        CompileSpec,
        "compile",
        config=config,
        settings=settings,
        flags={
            "batch_size": batch_size,
            "optimization_level": optimization_level,
            "device": tensorrt_device,
            "engine": engine,
        },
    )
    verb = _Verb(
        Session(_flags(backend, namespace, context, data, runs)),
        placement_of(None, retries, pending_timeout),
        wait=wait,
        follow=follow,
        format=output,
    )
    if dry_run is not None:
        return verb.dry_run(dry_run, run, Step.COMPILE, spec)
    return verb.submit(run, lambda of, data: compile_task(of, data, spec))


def submit_infer(
    run: options.RunName,
    mode: Annotated[
        str | None, typer.Option("--mode", metavar="submission|valid", help="Which pictures.")
    ] = None,
    batch_size: options.BatchSize = None,
    images: Annotated[
        str | None, typer.Option("--images", metavar="URL", help="A folder of any hand pictures.")
    ] = None,
    config: options.Config = None,
    settings: options.Set = None,
    dry_run: options.DryRun = None,
    wait: options.Wait = False,
    follow: options.Follow = False,
    retries: options.Retries = None,
    pending_timeout: options.PendingTimeout = None,
    backend: options.Backend = None,
    namespace: options.Namespace = None,
    context: options.Context = None,
    data: options.Data = None,
    runs: options.Runs = None,
    output: options.Output = Format.TABLE,
) -> Result:
    """Make masks with the run's engine: the test images', the validation's, or a folder's."""
    from hbseg.errors import UsageError
    from hbseg.pipeline import find_engine, images_prefix, infer_task
    from hbseg.specs import InferSpec
    from hbseg.steps import Step
    from hbseg.store import open_store

    if images is not None and mode not in (None, "images"):
        raise UsageError(f"--images does not go with --mode {mode}", "leave one of them out")
    images = None if images is None else open_store(images).url
    spec = spec_of(
        InferSpec,
        "infer",
        config=config,
        settings=settings,
        flags={
            "mode": "images" if images is not None else mode,
            "images": images,
            "batch_size": batch_size,
        },
    )
    verb = _Verb(
        Session(_flags(backend, namespace, context, data, runs)),
        placement_of(None, retries, pending_timeout),
        wait=wait,
        follow=follow,
        format=output,
    )
    if dry_run is not None:
        return verb.dry_run(dry_run, run, Step.INFER, spec)

    def task(of: Run, data: Store) -> Task:
        prefix = None if spec.images is None else images_prefix(open_store(spec.images))
        return infer_task(of, data, spec, find_engine(of, spec.batch_size), prefix=prefix)

    return verb.submit(run, task)


def submit_efficiency(
    run: options.RunName,
    config: options.Config = None,
    settings: options.Set = None,
    dry_run: options.DryRun = None,
    wait: options.Wait = False,
    follow: options.Follow = False,
    retries: options.Retries = None,
    pending_timeout: options.PendingTimeout = None,
    backend: options.Backend = None,
    namespace: options.Namespace = None,
    context: options.Context = None,
    data: options.Data = None,
    runs: options.Runs = None,
    output: options.Output = Format.TABLE,
) -> Result:
    """Measure latency and memory of the run's engine of batch size 1."""
    from hbseg.pipeline import efficiency_task, find_engine
    from hbseg.specs import EfficiencySpec
    from hbseg.steps import Step

    spec = spec_of(EfficiencySpec, "efficiency", config=config, settings=settings)
    verb = _Verb(
        Session(_flags(backend, namespace, context, data, runs)),
        placement_of(None, retries, pending_timeout),
        wait=wait,
        follow=follow,
        format=output,
    )
    if dry_run is not None:
        return verb.dry_run(dry_run, run, Step.EFFICIENCY, spec)
    return verb.submit(
        run,
        lambda of, data: efficiency_task(of, data, spec, find_engine(of, spec.batch_size)),
    )


def submit_report(
    run: options.RunName,
    config: options.Config = None,
    settings: options.Set = None,
    dry_run: options.DryRun = None,
    wait: options.Wait = False,
    follow: options.Follow = False,
    retries: options.Retries = None,
    pending_timeout: options.PendingTimeout = None,
    backend: options.Backend = None,
    namespace: options.Namespace = None,
    context: options.Context = None,
    data: options.Data = None,
    runs: options.Runs = None,
    output: options.Output = Format.TABLE,
) -> Result:
    """Make the HTML report of a run."""
    from hbseg.pipeline import find_efficiency, report_task
    from hbseg.specs import ReportSpec
    from hbseg.steps import Step

    spec = spec_of(ReportSpec, "report", config=config, settings=settings)
    verb = _Verb(
        Session(_flags(backend, namespace, context, data, runs)),
        placement_of(None, retries, pending_timeout),
        wait=wait,
        follow=follow,
        format=output,
    )
    if dry_run is not None:
        return verb.dry_run(dry_run, run, Step.REPORT, spec)
    return verb.submit(run, lambda of, data: report_task(of, data, spec, find_efficiency(of)))


def _flags(
    backend: str | None,
    namespace: str | None,
    context: str | None,
    data: str | None,
    runs: str | None,
) -> dict[str, str | None]:
    return {
        "backend": backend,
        "namespace": namespace,
        "context": context,
        "data": data,
        "runs": runs,
    }


class _Verb:
    """What all submitting verbs do with their task."""

    def __init__(
        self,
        session: Session,
        placement: Placement,
        *,
        wait: bool,
        follow: bool,
        format: Format,
    ) -> None:
        self._session = session
        self._placement = placement
        self._wait = wait
        self._follow = follow
        self._format = format

    def submit(
        self,
        name: str | None,
        make_task: Callable[[Run, Store], Task],
        *,
        claim: bool = False,
    ) -> Result:
        """Start the task; wait for its end or follow its logs where that was asked for."""
        from hbseg.pipeline import Started, submit

        session = self._session
        backend = session.backend()
        run = session.run(name)
        if claim:
            data = session.data()
            task = make_task(run, data)
            run.claim(data=data.url)
        else:
            data = session.data(run.read())
            task = make_task(run, data)
        outcome, state = submit(backend, run, task, self._placement, data=data)
        say(f"{task.prefix} of run {run.name}: {_WORDS[outcome]}")
        if outcome != Started.DONE and (self._follow or self._wait):
            state = self._until_the_end(run, task)
        elif outcome != Started.DONE:
            say(f"see: hbseg logs {run.name} --step {task.step} -f")
        run.summarise(steps={task.prefix: "done" if outcome == Started.DONE else state.phase})
        content: dict[str, Any] = {
            "run": run.name,
            "step": task.step.value,
            "prefix": task.prefix,
            "outcome": outcome.value,
            "state": state.phase.value,
        }
        return Result(document("Submitted", **content), [content], [task.prefix], self._format)

    def _until_the_end(self, run: Run, task: Task) -> Any:
        from hbseg.backend import Phase
        from hbseg.pipeline import failure_of

        backend = self._session.backend()
        try:
            if self._follow:
                for line in backend.logs(run, task.name, follow=True):
                    say(line)
            state = backend.wait(run, task.name)
        except KeyboardInterrupt:
            say(f"{task.prefix} runs on; see: hbseg logs {run.name} --step {task.step} -f")
            raise
        if state.phase != Phase.SUCCEEDED:
            run.summarise(steps={task.prefix: state.phase})
            raise failure_of(run, task, state)
        run.summarise(steps={task.prefix: "done"})
        return state

    def dry_run(self, kind: str, name: str | None, step: Step, spec: Spec) -> Result:
        """Return what would be started; needs no storage: what that would tell stays open."""
        from hbseg.errors import UsageError
        from hbseg.runs import checked_run_name

        if kind not in ("client", "server"):
            raise UsageError(f"--dry-run={kind}: expected client or server")
        settings = self._session.settings
        self._session.backend()
        if kind == "server":
            raise UsageError("--dry-run=server needs a cluster", "use --dry-run")
        content = document(
            "LocalJob",
            run=checked_run_name(name or settings.need("run")),
            step=step.value,
            data=settings.get("data") or "<data>",
            runs=settings.get("runs") or "<runs>",
            specHash=spec.digest(),
            placement=self._placement.model_dump(mode="json"),
            spec=spec.to_mapping(),
        )
        form = Format.YAML if self._format == Format.TABLE else self._format
        return Result(content, names=[step.value], format=form)


_WORDS = {
    "done": "unchanged, it is done",
    "running": "it is running already",
    "started": "started",
}
