"""The verbs that start one step: `submit-train`, `submit-compile` and the others."""

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
    from hbseg.control.verbs import Submitted
    from hbseg.runs.backend import Backend, JobState
    from hbseg.runs.steps import Step


ENGINES = "tensorrt|onnx|eager"
EngineOfRun = Annotated[
    str | None,
    typer.Option(
        "--engine", metavar=ENGINES, help="Which of the run's engines; default: the latest."
    ),
]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="fp32|tf32|fp16|bf16", help="Type of the arithmetic."),
]
TensorrtDevice = Annotated[
    str | None, typer.Option("--tensorrt-device", metavar="D", help="GPU model.")
]


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    for command in (submit_train, submit_compile, submit_infer, submit_efficiency, submit_report):
        parent.command()(command)


@grouped(submit_options=SUBMIT_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def submit_train(
    stage: Annotated[int, typer.Option("--stage", min=1, max=2, help="1 or 2.")],
    submit_options: SubmitOptions,
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
    from hbseg.runs.steps import stage_step

    if ckpt is not None and stage == 1:
        raise UsageError("--ckpt is for stage 2", "stage 1 takes --set model.encoder_weights=URL")
    step = stage_step(stage)
    spec = source.spec(step, TrainSpec, init_from=ckpt)
    return StepSubmitter(session, submit_options, output).run(run, step, spec, first=True)


@grouped(submit_options=SUBMIT_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def submit_compile(
    run: options.RunName,
    submit_options: SubmitOptions,
    source: SpecSource,
    session: Session,
    output: Format,
    batch_size: options.BatchSize = None,
    optimization_level: Annotated[
        int | None, typer.Option("--optimization-level", min=0, max=5, help="Effort, 0 to 5.")
    ] = None,
    tensorrt_device: TensorrtDevice = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            metavar=ENGINES,
            help="Kind of engine; default: tensorrt where pods have GPUs, else onnx.",
        ),
    ] = None,
    precision: Precision = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make the engine again though it is there.")
    ] = False,
) -> Result:
    """Make an engine of the run's stage 2."""
    from hbseg.config.specs import CompileSpec
    from hbseg.runs.steps import Step

    submitter = StepSubmitter(session, submit_options, output)
    spec = source.spec(
        Step.COMPILE,
        CompileSpec,
        offered=submitter.offered_engine,
        batch_size=batch_size,
        optimization_level=optimization_level,
        device=tensorrt_device,
        engine=engine,
        precision=precision,
    )
    return submitter.run(run, Step.COMPILE, spec, again=again)


@grouped(submit_options=SUBMIT_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def submit_infer(
    run: options.RunName,
    submit_options: SubmitOptions,
    source: SpecSource,
    session: Session,
    output: Format,
    mode: Annotated[
        str | None, typer.Option("--mode", metavar="submission|valid", help="Which pictures.")
    ] = None,
    batch_size: options.BatchSize = None,
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="URL", help="Any hand picture, or a folder of them."),
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Average with the mirrored pictures; twice the time.")
    ] = False,
    others: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="RUN2", help="Average with that run's engine; repeatable."),
    ] = None,
    thresholds: Annotated[
        str | None,
        typer.Option(
            "--thresholds",
            metavar="validation",
            help="Take each bone's threshold from the run's evaluation (--mode valid).",
        ),
    ] = None,
    engine: EngineOfRun = None,
    tensorrt_device: TensorrtDevice = None,
    precision: Precision = None,
) -> Result:
    """Make masks with the run's engine: the test images', the validation's, or a folder's."""
    from hbseg.config.specs import InferSpec
    from hbseg.errors import UsageError
    from hbseg.runs.results import REPORT
    from hbseg.runs.steps import Step
    from hbseg.storage.opening import canonical_url

    if thresholds not in (None, "validation"):
        raise UsageError(
            f"--thresholds {thresholds:.40}: expected validation",
            "give single ones as --set thresholds.Ulna=0.4",
        )
    if images is not None and mode not in (None, "images"):
        raise UsageError(f"--images does not go with --mode {mode}", "leave one of them out")
    images = None if images is None else canonical_url(images)
    mode = "images" if images is not None else mode
    spec = source.spec(
        Step.INFER, InferSpec, mode=mode, images=images, batch_size=batch_size, flip=flip or None
    )
    engine = _kind(engine, tensorrt_device, precision)
    if others or thresholds:
        from hbseg.control.inference import pinned_inference

        spec = pinned_inference(
            spec,
            session.run(run),
            [session.run(name) for name in others or ()],
            engine=engine,
            device=tensorrt_device,
            precision=precision,
            validated=thresholds is not None,
            tell=say,
        )
    submitter = StepSubmitter(session, submit_options, output)
    page = REPORT if spec.mode == "images" else None
    return submitter.run(
        run,
        Step.INFER,
        spec,
        engine=engine,
        device=tensorrt_device,
        precision=precision,
        page=page,
    )


@grouped(submit_options=SUBMIT_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def submit_efficiency(
    run: options.RunName,
    submit_options: SubmitOptions,
    source: SpecSource,
    session: Session,
    output: Format,
    engine: EngineOfRun = None,
    tensorrt_device: TensorrtDevice = None,
    precision: Precision = None,
) -> Result:
    """Measure latency, throughput and memory of the run's engines beside the eager network."""
    from hbseg.config.specs import EfficiencySpec
    from hbseg.runs.steps import Step

    spec = source.spec(Step.EFFICIENCY, EfficiencySpec)
    submitter = StepSubmitter(session, submit_options, output)
    return submitter.run(
        run,
        Step.EFFICIENCY,
        spec,
        engine=_kind(engine, tensorrt_device, precision),
        device=tensorrt_device,
        precision=precision,
    )


@grouped(submit_options=SUBMIT_OPTIONS, source=SOURCE, session=SESSION, output=OUTPUT)
def submit_report(
    run: options.RunName,
    submit_options: SubmitOptions,
    source: SpecSource,
    session: Session,
    output: Format,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Show and name no image, for a report to pass on.")
    ] = False,
) -> Result:
    """Make the HTML report of a run."""
    from hbseg.config.specs import ReportSpec
    from hbseg.runs.steps import Step

    spec = source.spec(Step.REPORT, ReportSpec, pictures=0 if no_images else None)
    return StepSubmitter(session, submit_options, output).run(run, Step.REPORT, spec)


def _kind(engine: str | None, device: str | None, precision: str | None) -> str | None:
    """Return the kind of engine; only TensorRT's are for a GPU model, or other than fp32."""
    special = device is not None or precision not in (None, "fp32")
    return "tensorrt" if engine is None and special else engine


def check_kind(engine: str | None) -> None:
    """Refuse a kind of engine that there is not. Raises UsageError."""
    from hbseg.documents import nearest
    from hbseg.errors import UsageError
    from hbseg.runs.engines import ENGINE_KINDS

    if engine is not None and engine not in ENGINE_KINDS:
        raise UsageError(f"--engine {engine!r:.60}: {nearest(engine, ENGINE_KINDS)}")


class StepSubmitter:
    """Starts a step as flags say, or shows what would be started."""

    def __init__(self, session: Session, submit_options: SubmitOptions, output: Format) -> None:
        self._session = session
        self._options = submit_options
        self._placement = submit_options.placement(session)
        self._format = output

    @property
    def waits(self) -> bool:
        """Whether the end of the step is waited for."""
        return self._options.wait or self._options.follow

    @property
    def offered_engine(self) -> str:
        """Kind of engine that is compiled where none is named."""
        return self._session.offered_engine(self._placement)

    def run(
        self,
        run: str | None,
        step: "Step",
        spec: "Spec",
        *,
        first: bool = False,
        raw: str | None = None,
        skip_bad: bool = False,
        engine: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        again: bool = False,
        page: str | None = None,
    ) -> Result:
        """Start the step, and wait for its end or follow its logs where that was asked for.

        Args:
            run: name of the run; none: the one of the settings.
            step: the step.
            spec: its spec.
            first: whether the run may be new.
            raw: URL of the raw set, for the step prepare.
            skip_bad: whether the step prepare leaves pictures with errors out.
            engine: kind of the run's engine that the step runs; none: the latest of any kind.
            device: GPU model that the engine is for; none: any.
            precision: of the engine's arithmetic; none: any.
            again: whether it starts though it is done.
            page: name of the page that the step leaves; where it is, is told.
        """
        check_kind(engine)
        if self._options.dry_run is not None:
            return self._dry_run(run, step, spec, raw=raw, skip_bad=skip_bad, engine=engine)
        from hbseg.control.pipeline import Started
        from hbseg.control.verbs import held_claim, submit
        from hbseg.storage.opening import open_store

        session = self._session
        backend, of = session.backend(), session.run(run)
        data = session.data(held_claim(of) if first else of.read())
        submitted = submit(
            backend,
            of,
            data,
            step,
            spec,
            self._placement,
            raw=None if raw is None else open_store(raw),
            skip_bad=skip_bad,
            engine=engine,
            device=device,
            precision=precision,
            again=again,
            tell=say,
        )
        words = {
            Started.DONE: "unchanged, it is done",
            Started.RUNNING: "it is running already",
            Started.STARTED: "started",
        }
        say(f"{submitted.task.prefix} of run {of.name}: {words[submitted.outcome]}")
        state = self._state(backend, submitted)
        if page is not None:
            is_there = submitted.outcome == Started.DONE or self.waits
            then = "report" if is_there else "report, when it is done"
            say(f"{then}: {submitted.task.folder.url}/{page}")
        return self._result(submitted, state)

    def _state(self, backend: "Backend", submitted: "Submitted") -> "JobState":
        """Return the state at the end of what was waited for."""
        from hbseg.control.pipeline import Started
        from hbseg.control.verbs import wait

        task, run = submitted.task, submitted.run
        logs = f"hbseg logs {run.name} --step {task.step} -f"
        if not self.waits or submitted.outcome == Started.DONE:
            if submitted.outcome != Started.DONE:
                say(f"see: {logs}")
            return submitted.state
        try:
            return wait(backend, submitted, tell=say, line=say if self._options.follow else None)
        except KeyboardInterrupt:
            say(f"{task.prefix} keeps running; come back: {logs}, stop it: hbseg cancel {run.name}")
            raise

    def _result(self, submitted: "Submitted", state: "JobState") -> Result:
        content: dict[str, Any] = {
            "run": submitted.run.name,
            "step": submitted.task.step.value,
            "prefix": submitted.task.prefix,
            "outcome": submitted.outcome.value,
            "state": state.phase.value,
        }
        names = [submitted.task.prefix]
        return Result(document("Submitted", **content), [content], names, self._format)

    def _dry_run(
        self,
        run: str | None,
        step: "Step",
        spec: "Spec",
        *,
        raw: str | None,
        skip_bad: bool,
        engine: str | None,
    ) -> Result:
        """Return what would be started; needs no storage: what that would tell stays open."""
        kind, settings = self._options.dry_run, self._session.settings
        if settings.need("backend") != "kubernetes":
            return self._local_job(run, step, spec, engine, on_server=kind == "server")
        from hbseg.control.rendering import offline_step, step_manifests, step_notes
        from hbseg_cli.render import manifest_result, object_name, say_notes

        if kind == "server":
            settings = self._session.shared
        found = offline_step(
            settings, run, step, spec, self._placement, raw=raw, skip_bad=skip_bad, engine=engine
        )
        say_notes(step_notes(found, self._placement))
        if kind == "client":
            return manifest_result(step_manifests(settings, found, self._placement), self._format)
        objects = self._session.backend().dry_run(found.call, self._placement)
        for manifest in objects:
            say(f"{object_name(manifest)} accepted by the server")
        return manifest_result(objects, self._format)

    def _local_job(
        self, run: str | None, step: "Step", spec: "Spec", engine: str | None, *, on_server: bool
    ) -> Result:
        from hbseg.config.specs import CompileSpec
        from hbseg.control.engines import check_place
        from hbseg.errors import UsageError
        from hbseg.runs.chain_specs import offline_spec
        from hbseg.runs.run_name import checked_run_name

        settings = self._session.settings
        name = checked_run_name(run or settings.need("run"))
        self._session.backend()  # refused here where there is no such
        spec = offline_spec(spec)
        engine = spec.engine if isinstance(spec, CompileSpec) else engine
        check_place(step, engine, "local", self._placement)
        if on_server:
            raise UsageError("--dry-run=server needs a cluster", "use --dry-run")
        content = document(
            "LocalJob",
            run=name,
            step=step.value,
            data=settings.get("data") or "<data>",
            runs=settings.get("runs") or "<runs>",
            specHash=spec.digest(),
            placement=self._placement.model_dump(mode="json"),
            spec=spec.to_mapping(),
        )
        form = Format.YAML if self._format == Format.TABLE else self._format
        return Result(content, names=[step.value], format=form)
