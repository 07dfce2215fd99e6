"""Entry of the step infer: an engine and pictures become masks."""

from __future__ import annotations

from collections.abc import Iterable

from hbseg.config.specs import InferSpec
from hbseg.data.dataset import open_version
from hbseg.errors import NotFoundError, SpecError
from hbseg.ml.engines.card import Engine
from hbseg.ml.engines.opening import open_engine
from hbseg.ml.infer import SUBMISSION, InferStep, Share
from hbseg.ml.predict import Picture, Source
from hbseg.ml.sources import Truth, dataset_sources, dataset_truth, folder_sources
from hbseg.report.pictures import build_pictures_report
from hbseg.runs.node import node_count, node_index
from hbseg.runs.results import FLAGS, PICTURES, REPORT, Flags, Pictures
from hbseg.storage.markers import sha256_of
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from hbseg_jobs.entry import StepContext, libraries, run_step


def work(context: StepContext) -> None:
    """Make the masks of all pictures, part by part, and write the marker."""
    spec = context.spec(InferSpec)
    inputs = context.task.input_digests()
    identity = context.task.identity()
    engine = open_engine(
        context.input("engine"), context.work, batch_size=spec.batch_size, loading=libraries
    )
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
    folder.download(SUBMISSION, csv)
    try:
        page = build_pictures_report(pictures, csv, load, _flags(folder))
    finally:
        csv.unlink(missing_ok=True)
    folder.put(REPORT, page)
    return {REPORT: sha256_of(page)}


def _flags(folder: Store) -> Flags | None:
    try:
        return Flags.from_text(folder.get(FLAGS), source=f"{folder.url}/{FLAGS}")
    except NotFoundError:
        return None


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
        return folder_sources(open_store(spec.images)), None
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
