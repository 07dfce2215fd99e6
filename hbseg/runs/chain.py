"""The tasks of a run, in the order in which they depend on each other.

    stage1 -> stage2 -> compile (batch of infer), compile (batch of efficiency)
           -> infer, valid -> efficiency -> report

A task is known once its inputs are done, since its folder may carry a hash of them. The same
functions serve the single verbs, the pipeline on this machine and a runner in a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from hbseg.config.specs import (
    CompileSpec,
    EfficiencySpec,
    InferSpec,
    PrepareSpec,
    ReportSpec,
    TrainSpec,
)
from hbseg.documents import canonical_digest
from hbseg.errors import ConflictError, NotFoundError
from hbseg.runs.run import Run
from hbseg.runs.task import SHORT, TRAINING, Input, Step, Task
from hbseg.storage.markers import MARKER, read_marker, sha256_of
from hbseg.storage.store import Store, open_store


@dataclass(frozen=True)
class ChainSpecs:
    """The specs of a whole run."""

    stage1: TrainSpec
    stage2: TrainSpec
    compile: CompileSpec
    """Its batch size is replaced by those of `infer` and `efficiency`."""
    infer: InferSpec
    efficiency: EfficiencySpec
    report: ReportSpec

    def pinned(self, data: Store) -> ChainSpecs:
        """Return the specs with the dataset's current version where none is given.

        Raises:
            NotFoundError: there is no dataset.
        """
        return replace(self, stage1=pinned(self.stage1, data), stage2=pinned(self.stage2, data))


def pinned(spec: TrainSpec, data: Store) -> TrainSpec:
    """Return a training's spec with the dataset's current version where none is given."""
    if spec.dataset.version is not None:
        return spec
    from hbseg.data.dataset import open_version

    block = spec.dataset.model_copy(update={"version": open_version(data, None).version})
    return spec.model_copy(update={"dataset": block})


def prepare_task(run: Run, spec: PrepareSpec, raw: Store, *, skip_bad: bool = False) -> Task:
    """Return the making of a dataset version from a raw set in storage.

    It has no inputs with markers, so it repeats: the version is addressed by its content, and one
    that is there is left as it is.
    """
    extra = ("--raw", raw.url, *(("--skip-bad",) if skip_bad else ()))
    folder = run.folder.folder(Step.PREPARE)
    return Task(Step.PREPARE, spec, folder, Step.PREPARE, extra=extra, repeats=True)


def stage_task(run: Run, data: Store, spec: TrainSpec) -> Task:
    """Return a training stage; its spec names the dataset's version.

    Raises:
        ConflictError: stage 2 has neither a stage 1 in its run nor `init_from`.
    """
    step = TRAINING[spec.stage - 1]
    inputs = [_dataset(data, spec)]
    if spec.stage == 2:
        inputs.append(Input("checkpoint", _first_weights(run, spec)))
    return Task(step, spec, run.folder.folder(step), step, tuple(inputs))


def _dataset(data: Store, spec: TrainSpec) -> Input:
    return Input("dataset", data.folder(f"versions/{spec.dataset.version}"))


def _first_weights(run: Run, spec: TrainSpec) -> Store:
    if spec.init_from is not None:
        folder = open_store(spec.init_from)
        missing, hint = f"no finished checkpoint in {folder.url}", "correct --ckpt URL"
    else:
        folder = run.folder.folder(Step.STAGE1)
        missing = f"run {run.name} has no finished stage 1 to start stage 2 from"
        hint = f"run: hbseg submit-train --stage 1 --run {run.name}, or give --ckpt URL"
    if not folder.exists(MARKER):
        raise ConflictError(missing, hint)
    return folder


def compile_task(run: Run, data: Store, spec: CompileSpec) -> Task:
    """Return the making of an engine from stage 2, in a folder named by all that decides it.

    Raises:
        ConflictError: stage 2 is not done.
    """
    inputs = (Input("checkpoint", _done(run, Step.STAGE2)), dataset_of(run, data))
    unnamed = Task(Step.COMPILE, spec, run.folder, "engine", inputs)
    prefix = f"engine/{unnamed.identity()[:SHORT]}"
    return replace(unnamed, folder=run.folder.folder(prefix), prefix=prefix)


def infer_task(
    run: Run, data: Store, spec: InferSpec, engine: Task, *, prefix: str | None = None
) -> Task:
    """Return the making of masks with an engine; `prefix` is needed for the mode `images`."""
    prefix = prefix or {"submission": "infer", "valid": "valid"}[spec.mode]
    inputs = (dataset_of(run, data), Input("engine", engine.folder))
    return Task(Step.INFER, spec, run.folder.folder(prefix), prefix, inputs)


def images_prefix(images: Store) -> str:
    """Return the folder in a run for the masks of a folder of pictures.

    It is named by the pictures' names and contents: other pictures are another result. Files that
    are no pictures by their names are not read.

    Raises:
        NotFoundError: there is no picture in the folder, or no folder.
    """
    content = [(key, sha256_of(images.get(key))) for key in picture_keys(images)]
    return f"images/{canonical_digest(content)[:SHORT]}"


def picture_keys(images: Store) -> list[str]:
    """Return the keys of a folder's pictures, told by their names.

    Raises:
        NotFoundError: there is no picture in the folder, or no folder.
    """
    from hbseg.data.raw import is_picture

    keys = [entry.key for entry in images.list() if is_picture(entry.key)]
    if not keys:
        raise NotFoundError(f"no pictures in {images.url}", "correct --images")
    return keys


def find_engine(run: Run, batch_size: int) -> Task:
    """Return the making of the run's latest engine of a batch size, made from its stage 2.

    Raises:
        ConflictError: there is none.
    """
    checkpoint = read_marker(_done(run, Step.STAGE2)).digest
    fitting, others = [], set()
    for key in run.folder.list_folders("engine"):
        folder = run.folder.folder(f"engine/{key}")
        try:
            marker = read_marker(folder)
            card = json.loads(folder.get("engine.json"))
            batch = int(card["batch_size"])
        except (NotFoundError, ValueError, KeyError, TypeError):
            continue
        if marker.inputs.get("checkpoint") != checkpoint:
            continue
        if batch == batch_size:
            fitting.append((marker.finished, key))
        others.add(batch)
    if fitting:
        prefix = f"engine/{max(fitting)[1]}"
        spec = CompileSpec(batch_size=batch_size)
        return Task(Step.COMPILE, spec, run.folder.folder(prefix), prefix)
    wanted = f"run: hbseg submit-compile {run.name} --batch-size-eval {batch_size}"
    if others:
        found = ", ".join(str(batch) for batch in sorted(others))
        raise ConflictError(
            f"engine was compiled for batch size {found}, asked for {batch_size}", wanted
        )
    raise ConflictError(f"run {run.name} has no engine of its stage 2", wanted)


def find_efficiency(run: Run) -> Task:
    """Return the latest finished measurement of the run.

    Raises:
        ConflictError: there is none.
    """
    found = []
    for key in run.folder.list_folders("efficiency"):
        with suppress(NotFoundError):
            marker = read_marker(run.folder.folder(f"efficiency/{key}"))
            found.append((marker.finished, key))
    if not found:
        raise ConflictError(
            f"run {run.name} has no measured efficiency", f"run: hbseg submit-efficiency {run.name}"
        )
    prefix = f"efficiency/{max(found)[1]}"
    return Task(Step.EFFICIENCY, EfficiencySpec(), run.folder.folder(prefix), prefix)


def efficiency_task(run: Run, data: Store, spec: EfficiencySpec, engine: Task) -> Task:
    """Return the measurement of an engine."""
    prefix = f"efficiency/{engine.prefix.rpartition('/')[2]}"
    inputs = (
        Input("engine", engine.folder),
        Input("checkpoint", _done(run, Step.STAGE2)),
        dataset_of(run, data),
    )
    return Task(Step.EFFICIENCY, spec, run.folder.folder(prefix), prefix, inputs)


def report_task(run: Run, data: Store, spec: ReportSpec, efficiency: Task) -> Task:
    """Return the report on all that the run achieved."""
    inputs = (
        dataset_of(run, data),
        *(Input(name, run.folder.folder(name)) for name in ("stage1", "stage2", "valid", "infer")),
        Input("efficiency", efficiency.folder),
    )
    return Task(Step.REPORT, spec, run.folder.folder("report"), "report", inputs)


def dataset_of(run: Run, data: Store) -> Input:
    """Return the dataset version that the run was trained on, as its latest stage says.

    Raises:
        ConflictError: no stage is done.
    """
    return Input("dataset", data.folder(f"versions/{dataset_version(run)}"))


def dataset_version(run: Run) -> str:
    """Return the hash of the dataset version that the run's latest stage was trained on.

    Raises:
        ConflictError: no stage is done.
    """
    for stage in reversed(TRAINING):
        folder = run.folder.folder(stage)
        if folder.exists(MARKER):
            source = f"{folder.url}/spec.yaml"
            version = TrainSpec.from_text(folder.get("spec.yaml"), source=source).dataset.version
            if version is not None:
                return version
    raise ConflictError(
        f"run {run.name} has no finished training stage",
        f"run: hbseg submit-train --stage 1 --run {run.name}",
    )


def _done(run: Run, step: Step) -> Store:
    folder = run.folder.folder(step)
    if not folder.exists(MARKER):
        raise ConflictError(
            f"run {run.name} has no finished {step}",
            f"run: hbseg submit-train --stage {step[-1]} --run {run.name}",
        )
    return folder


def chain(run: Run, data: Store, specs: ChainSpecs) -> Iterator[Task]:
    """Yield the run's tasks in order; each next one may be asked for when the last one is done.

    `specs` must name the dataset's version (see `ChainSpecs.pinned`).

    Raises:
        ConflictError: it was asked for before.
    """
    yield stage_task(run, data, specs.stage1)
    yield stage_task(run, data, specs.stage2)
    batched, single = (
        compile_task(run, data, specs.compile.model_copy(update={"batch_size": batch_size}))
        for batch_size in (specs.infer.batch_size, specs.efficiency.batch_size)
    )
    yield batched
    if single.prefix != batched.prefix:
        yield single
    yield infer_task(run, data, specs.infer, batched)
    valid = specs.infer.model_copy(update={"mode": "valid", "images": None})
    yield infer_task(run, data, valid, batched)
    measured = efficiency_task(run, data, specs.efficiency, single)
    yield measured
    yield report_task(run, data, specs.report, measured)


def reached(run: Run, data: Store, specs: ChainSpecs) -> Iterator[tuple[Task, bool]]:
    """Yield the run's tasks with whether they are done, up to the first that is not."""
    for task in chain(run, data, specs):
        done = task.is_done()
        yield task, done
        if not done:
            return
