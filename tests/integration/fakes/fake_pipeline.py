"""A pipeline over fake steps in a process of its own: `fake_pipeline.py RUNS DATA`."""

import sys

from hbseg.chain import ChainSpecs
from hbseg.local.backend import LocalBackend
from hbseg.pipeline import Event, Pipeline
from hbseg.runs import Run
from hbseg.specs import (
    CompileSpec,
    DatasetBlock,
    EfficiencySpec,
    InferSpec,
    ModelBlock,
    ReportSpec,
    TrainSpec,
)
from hbseg.steps import TRAINING, Step
from hbseg.store import open_store


def tell(event: Event) -> None:
    print(event.happening, event.task.prefix, flush=True)


def main(runs: str, data: str, version: str) -> None:
    dataset = DatasetBlock(version=version)
    specs = ChainSpecs(
        stage1=TrainSpec(model=ModelBlock(), dataset=dataset),
        stage2=TrainSpec(stage=2, dataset=dataset),
        compile=CompileSpec(),
        infer=InferSpec(),
        efficiency=EfficiencySpec(),
        report=ReportSpec(),
    )
    modules = {
        step: f"tests.integration.fakes.{'fake_train' if step in TRAINING else 'fake_step'}"
        for step in Step
    }
    run = Run(open_store(runs), "first")
    Pipeline(LocalBackend(modules=modules), run, open_store(data), specs, on_event=tell).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
