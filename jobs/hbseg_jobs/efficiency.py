"""Entry of the step efficiency: engines and their network are timed."""

from __future__ import annotations

from hbseg.config.specs import EfficiencySpec
from hbseg.data.dataset import open_version
from hbseg.runs.results import EFFICIENCY
from hbseg.storage.markers import sha256_of
from hbseg_jobs.entry import StepContext, libraries, run_step


def work(context: StepContext) -> None:
    """Measure, and write the figures as a record: they change from one execution to the next."""
    spec = context.spec(EfficiencySpec)
    with libraries():
        from hbseg.ml.efficiency import figures, measure
        from hbseg.ml.engines.reference import held_out_fold, reference_pictures

    inputs = context.task.input_digests()
    stage, engines = context.input("checkpoint"), [context.input("engine")]
    if spec.throughput_batch_size not in (None, spec.batch_size):
        engines.append(context.input("throughput_engine"))
    dataset = open_version(context.data, context.input("dataset").url.rpartition("/")[2])
    measured = measure(
        spec,
        reference_pictures(dataset, held_out_fold(stage)),
        engines,
        stage,
        context.work,
        context.heartbeat,
    )
    context.task.folder.put(EFFICIENCY, measured.to_json())
    context.finish(
        {},
        records={EFFICIENCY: sha256_of(measured.to_json())},
        metrics=figures(measured, spec),
        inputs=inputs,
    )


def main() -> None:
    """Run the step and exit with its code."""
    run_step(work)


if __name__ == "__main__":
    main()
