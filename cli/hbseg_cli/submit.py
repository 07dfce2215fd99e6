"""The verbs that start one step: `submit-train`, `submit-compile` and the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hbseg_cli import options
from hbseg_cli.groups import (
    OUTPUT,
    SESSION,
    SOURCE,
    SUBMIT_OPTIONS,
    SpecSource,
    SubmitOptions,
    grouped,
)
from hbseg_cli.output import Format, Result, document, say
from hbseg_cli.session import Session

if TYPE_CHECKING:
    from hbseg.config.specs import Spec
    from hbseg.runs.backend import Backend, JobState
    from hbseg.runs.run import Run
    from hbseg.runs.task import Step, Task
    from hbseg.storage.store import Store


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    for command in (submit_train, submit_compile, submit_infer, submit_efficiency, submit_report):
        parent.command()(command)


@grouped(options_=SUBMIT_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def submit_train(
    stage: Annotated[int, typer.Option("--stage", min=1, max=2, help="1 or 2.")],
    options_: SubmitOptions,
    source: SpecSource,
    session: Session,
    output: Format,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Name of the run (HBSEG_RUN).")
    ] = None,
    ckpt: Annotated[
        str | None,
        typer.Option("--ckpt", metavar="URL", help="Checkpoint folder that stage 2 starts from."),
    ] = None,
) -> Result:
    """Train a stage; stage 2 starts from the run's stage 1 unless --ckpt names a checkpoint."""
    from hbseg.config.specs import TrainSpec
    from hbseg.errors import UsageError
    from hbseg.runs.task import TRAINING

    if ckpt is not None and stage == 1:
        raise UsageError("--ckpt is for stage 2", "stage 1 takes --set model.encoder_weights=URL")
    spec = source.spec(TrainSpec, f"train_stage{stage}", stage=stage, init_from=ckpt)
    verb = _Verb(session, options_, output)
    if options_.dry_run is not None:
        return verb.dry_run(run, TRAINING[stage - 1], spec)
    from hbseg.runs.chain import pinned, stage_task

    return verb.submit(run, lambda of, data: stage_task(of, data, pinned(spec, data)), claim=True)


@grouped(options_=SUBMIT_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def submit_compile(
    run: options.RunName,
    options_: SubmitOptions,
    source: SpecSource,
    session: Session,
    output: Format,
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
) -> Result:
    """Make an engine of the run's stage 2."""
    from hbseg.config.specs import CompileSpec
    from hbseg.runs.chain import compile_task
    from hbseg.runs.task import Step

    spec = source.spec(
        CompileSpec,
        "compile",
        batch_size=batch_size,
        optimization_level=optimization_level,
        device=tensorrt_device,
        engine=engine,
    )
    verb = _Verb(session, options_, output)
    if options_.dry_run is not None:
        return verb.dry_run(run, Step.COMPILE, spec)
    return verb.submit(run, lambda of, data: compile_task(of, data, spec))


@grouped(options_=SUBMIT_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def submit_infer(
    run: options.RunName,
    options_: SubmitOptions,
    source: SpecSource,
    session: Session,
    output: Format,
    mode: Annotated[
        str | None, typer.Option("--mode", metavar="submission|valid", help="Which pictures.")
    ] = None,
    batch_size: options.BatchSize = None,
    images: Annotated[
        str | None, typer.Option("--images", metavar="URL", help="A folder of any hand pictures.")
    ] = None,
) -> Result:
    """Make masks with the run's engine: the test images', the validation's, or a folder's."""
    from hbseg.cluster.rendering.offline import canonical_url
    from hbseg.config.specs import InferSpec
    from hbseg.errors import UsageError
    from hbseg.runs.chain import find_engine, images_prefix, infer_task
    from hbseg.runs.task import Step
    from hbseg.storage.store import open_store

    if images is not None and mode not in (None, "images"):
        raise UsageError(f"--images does not go with --mode {mode}", "leave one of them out")
    images = None if images is None else canonical_url(images)
    mode = "images" if images is not None else mode
    spec = source.spec(InferSpec, "infer", mode=mode, images=images, batch_size=batch_size)
    verb = _Verb(session, options_, output)
    if options_.dry_run is not None:
        return verb.dry_run(run, Step.INFER, spec)

    def task(of: Run, data: Store) -> Task:
        prefix = None if spec.images is None else images_prefix(open_store(spec.images))
        return infer_task(of, data, spec, find_engine(of, spec.batch_size), prefix=prefix)

    return verb.submit(run, task)


@grouped(options_=SUBMIT_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def submit_efficiency(
    run: options.RunName,
    options_: SubmitOptions,
    source: SpecSource,
    session: Session,
    output: Format,
) -> Result:
    """Measure latency and memory of the run's engine of batch size 1."""
    from hbseg.config.specs import EfficiencySpec
    from hbseg.runs.chain import efficiency_task, find_engine
    from hbseg.runs.task import Step

    spec = source.spec(EfficiencySpec, "efficiency")
    verb = _Verb(session, options_, output)
    if options_.dry_run is not None:
        return verb.dry_run(run, Step.EFFICIENCY, spec)
    return verb.submit(
        run,
        lambda of, data: efficiency_task(of, data, spec, find_engine(of, spec.batch_size)),
    )


@grouped(options_=SUBMIT_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def submit_report(
    run: options.RunName,
    options_: SubmitOptions,
    source: SpecSource,
    session: Session,
    output: Format,
) -> Result:
    """Make the HTML report of a run."""
    from hbseg.config.specs import ReportSpec
    from hbseg.runs.chain import find_efficiency, report_task
    from hbseg.runs.task import Step

    spec = source.spec(ReportSpec, "report")
    verb = _Verb(session, options_, output)
    if options_.dry_run is not None:
        return verb.dry_run(run, Step.REPORT, spec)
    return verb.submit(run, lambda of, data: report_task(of, data, spec, find_efficiency(of)))


class _Verb:
    """What all submitting verbs do with their task."""

    def __init__(self, session: Session, options_: SubmitOptions, output: Format) -> None:
        self._session = session
        self._submit_options = options_
        self._format = output

    def submit(
        self,
        name: str | None,
        make_task: Callable[[Run, Store], Task],
        *,
        claim: bool = False,
    ) -> Result:
        """Start the task; wait for its end or follow its logs where that was asked for."""
        from hbseg.control.pipeline import Started, submit
        from hbseg.runs.backend import Phase
        from hbseg.runs.run import CLAIM
        from hbseg.runs.states import TaskState

        session = self._session
        backend = session.backend()
        run = session.run(name)
        if claim:
            data = session.data(run.read() if run.folder.exists(CLAIM) else None)
        else:
            data = session.data(run.read())
        task = make_task(run, data)
        run.claim(data=data.url, namespace=backend.namespace)
        outcome, state = submit(backend, run, task, self._submit_options.placement, data=data)
        say(f"{task.prefix} of run {run.name}: {_WORDS[outcome]}")
        if outcome != Started.DONE and (self._submit_options.follow or self._submit_options.wait):
            state = self._until_the_end(backend, run, task, joined=outcome == Started.RUNNING)
        elif outcome != Started.DONE:
            say(f"see: hbseg logs {run.name} --step {task.step} -f")
        if outcome == Started.DONE:
            _summarise(run, task, TaskState.DONE)
        elif outcome == Started.STARTED and state.phase == Phase.PENDING:
            _summarise(run, task, state.phase)  # its launcher says more once it runs
        content: dict[str, Any] = {
            "run": run.name,
            "step": task.step.value,
            "prefix": task.prefix,
            "outcome": outcome.value,
            "state": state.phase.value,
        }
        return Result(document("Submitted", **content), [content], [task.prefix], self._format)

    def _until_the_end(self, backend: Backend, run: Run, task: Task, *, joined: bool) -> JobState:
        from hbseg.control.pipeline import failure_of
        from hbseg.control.waiting import wait_for_start
        from hbseg.errors import NotFinished
        from hbseg.runs.backend import Phase
        from hbseg.runs.states import TaskState

        limit = self._submit_options.placement.pending_timeout
        try:
            wait_for_start(
                backend,
                run,
                task,
                limit,
                joined=joined,
                tell=lambda reason: say(f"waits: {reason}"),
            )
            if self._submit_options.follow:
                for line in backend.logs(run, task.name, follow=True):
                    say(line)
            state = backend.wait(run, task.name)
        except KeyboardInterrupt:
            say(
                f"{task.prefix} runs on; come back: hbseg logs {run.name} --step {task.step} -f, "
                f"stop it: hbseg cancel {run.name}"
            )
            raise
        except NotFinished:
            if not joined:
                _summarise(run, task, Phase.CANCELLED)
            raise
        if state.phase != Phase.SUCCEEDED:
            gone = state.phase == Phase.ABSENT
            _summarise(run, task, Phase.CANCELLED if gone else state.phase)
            raise failure_of(run, task, state)
        _summarise(run, task, TaskState.DONE)
        return state

    def dry_run(
        self, name: str | None, step: Step, spec: Spec, *, extra: tuple[str, ...] = ()
    ) -> Result:
        """Return what would be started; needs no storage: what that would tell stays open."""
        from hbseg.errors import UsageError
        from hbseg.runs.run import checked_run_name

        kind = self._submit_options.dry_run
        if kind not in ("client", "server"):
            raise UsageError(f"--dry-run={kind}: expected client or server")
        settings = self._session.settings
        run = checked_run_name(name or settings.need("run"))
        if settings.need("backend") == "kubernetes":
            return self._manifests(run, step, spec, extra, on_server=kind == "server")
        self._session.backend()
        if kind == "server":
            raise UsageError("--dry-run=server needs a cluster", "use --dry-run")
        content = document(
            "LocalJob",
            run=run,
            step=step.value,
            data=settings.get("data") or "<data>",
            runs=settings.get("runs") or "<runs>",
            specHash=spec.digest(),
            placement=self._submit_options.placement.model_dump(mode="json"),
            spec=spec.to_mapping(),
        )
        form = Format.YAML if self._format == Format.TABLE else self._format
        return Result(content, names=[step.value], format=form)

    def _manifests(
        self, run: str, step: Step, spec: Spec, extra: tuple[str, ...], *, on_server: bool
    ) -> Result:
        from hbseg_cli.render import named, outlined, step_objects, told

        call = outlined(self._session, run, step, spec, extra, self._submit_options.placement)
        if not on_server:
            objects = step_objects(self._session, call, self._submit_options.placement)
            return told(objects, self._format)
        backend = self._session.backend()
        objects = backend.dry_run(call, self._submit_options.placement)
        for manifest in objects:
            say(f"{named(manifest)} accepted by the server")
        return told(objects, self._format)


def _summarise(run: Run, task: Task, state: str) -> None:
    from hbseg.runs.attempts import summary_problem

    if problem := summary_problem(run, {task.prefix: state}):
        say(problem)


_WORDS = {
    "done": "unchanged, it is done",
    "running": "it is running already",
    "started": "started",
}
