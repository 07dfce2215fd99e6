"""Entry of the step infer: an engine and pictures become masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hbseg.config.specs import InferSpec
from hbseg.data.dataset import open_version
from hbseg.data.picture_folder import open_pictures
from hbseg.errors import SpecError
from hbseg.ml.averaging import ensemble, flip_averaged
from hbseg.ml.engines.card import Engine
from hbseg.ml.engines.opening import open_engine
from hbseg.ml.evaluation import Truth, dataset_truth
from hbseg.ml.infer import SUBMISSION, InferStep, Share
from hbseg.ml.predict import Source
from hbseg.ml.sources import dataset_sources, folder_sources, say
from hbseg.ml.views import Picture
from hbseg.report.pictures import build_pictures_report
from hbseg.runs.node import node_count, node_index
from hbseg.runs.results import FLAGS, PICTURES, REPORT, Flags, Pictures
from hbseg.runs.steps import Step
from hbseg.storage.markers import sha256_of
from hbseg_jobs.entry import StepContext, libraries, run_step


def work(context: StepContext) -> None:
    """Make the masks of all pictures, part by part, and write the marker."""
    spec = context.spec(InferSpec)
    inputs = context.task.input_digests()
    identity = context.task.identity()
    engine = _engine(context, spec)
    sources, truth = _pictures(context, spec, engine)
    step = InferStep(
        spec,
        engine,
        context.task.folder,
        context.work,
        identity=identity,
        truth=truth,
        heartbeat=context.heartbeat,
    )
    inferred = step.run(sources, _share())
    if inferred is not None:
        records = _write_report(context, sources) if spec.mode == "images" else {}
        context.finish(inferred.outputs, records=records, metrics=inferred.metrics, inputs=inputs)


def _write_report(context: StepContext, sources: Iterable[Source]) -> dict[str, str]:
    """Write the report of a folder's pictures; return what the marker records of it."""
    folder, csv = context.task.folder, context.work / SUBMISSION
    loaders = {source.path: source.load for source in sources}

    def load(path: str) -> Picture:
        context.heartbeat.touch()
        return loaders[path]()

    pictures = Pictures.from_text(folder.get(PICTURES), source=f"{folder.url}/{PICTURES}")
    flags = Flags.from_text(folder.get(FLAGS), source=f"{folder.url}/{FLAGS}")
    folder.download(SUBMISSION, csv)
    try:
        page = build_pictures_report(pictures, csv, load, flags)
    finally:
        csv.unlink(missing_ok=True)
    folder.put(REPORT, page)
    return {REPORT: sha256_of(page)}


def _engine(context: StepContext, spec: InferSpec) -> Engine:
    """Return the run's engine, averaged with the others that the spec names."""
    members = [name for item in Step.INFER.row.inputs if item.many for name in item.named(spec)]
    own = _opened(context, "engine", spec.batch_size)
    kind = own.card.backend
    engines = [own, *(_opened(context, name, spec.batch_size, kind) for name in members)]
    if spec.mode == "valid":
        _tell_leaks(engines, members)
    engine = ensemble(engines)
    return flip_averaged(engine) if spec.flip else engine


def _tell_leaks(engines: Sequence[Engine], members: Sequence[str]) -> None:
    """Warn of engines that were trained on the pictures that they are judged by."""
    held_out = engines[0].card.fold
    for name, engine in zip(members, engines[1:], strict=True):
        if engine.card.fold != held_out:
            say(
                f"warning: {name} held out fold {engine.card.fold}, not {held_out}: it was trained "
                "on these pictures, so the Dice is too high"
            )


def _opened(context: StepContext, name: str, batch_size: int, kind: str | None = None) -> Engine:
    work = context.work / name  # model files share a name
    work.mkdir(exist_ok=True)
    folder = context.input(name)
    return open_engine(folder, work, batch_size=batch_size, kind=kind, loading=libraries)


def _share() -> Share:
    """Return which parts this node makes, as a job of several pods tells it."""
    index, count = node_index(), node_count()
    if not 0 <= index < count:
        raise SpecError(f"HBSEG_NODE is {index}, expected 0 to {count - 1}")
    return Share(index, count)


def _pictures(
    context: StepContext, spec: InferSpec, engine: Engine
) -> tuple[list[Source], Truth | None]:
    if spec.images is not None:
        return folder_sources(open_pictures(spec.images)), None
    dataset = open_version(context.data, context.input("dataset").url.rpartition("/")[2])
    if spec.mode == "submission":
        return dataset_sources(dataset, dataset.samples("test")), None
    samples = dataset.samples("validation", engine.card.fold)
    return dataset_sources(dataset, samples), dataset_truth(dataset, samples)


def main() -> None:
    """Run the step and exit with its code."""
    run_step(work)


if __name__ == "__main__":
    main()
