"""Entry of the step compile: a checkpoint becomes an engine."""

from __future__ import annotations

from hbseg.config.specs import CompileSpec
from hbseg.data.dataset import open_version
from hbseg.storage.markers import sha256_of
from hbseg_jobs.entry import StepContext, libraries, run_step


def work(context: StepContext) -> None:
    """Compile, compare with the network, and write engine, card and marker."""
    spec = context.spec(CompileSpec)
    with libraries():
        from hbseg.ml.checkpoint import load_model
        from hbseg.ml.engines.card import CARD
        from hbseg.ml.engines.compile import compile_engine
        from hbseg.ml.engines.reference import held_out_fold, reference_pictures

    inputs = context.task.input_digests()
    stage = context.input("checkpoint")
    dataset = open_version(context.data, context.input("dataset").url.rpartition("/")[2])
    fold = held_out_fold(stage)
    card = compile_engine(
        spec,
        load_model(stage),
        reference_pictures(dataset, fold),
        context.work,
        fold=fold,
        loading=libraries,
    )
    folder = context.task.folder
    folder.upload(card.model, context.work / card.model)
    folder.put(CARD, card.to_json())
    context.finish(
        {card.model: card.model_sha256},
        records={CARD: sha256_of(card.to_json())},
        metrics=card.figures(),
        inputs=inputs,
    )


def main() -> None:
    """Run the step and exit with its code."""
    run_step(work)


if __name__ == "__main__":
    main()
