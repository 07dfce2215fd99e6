"""A chain of fake steps: its specs, and what they leave."""

from pathlib import Path

from hbseg.config.specs import (
    CompileSpec,
    DatasetBlock,
    EfficiencySpec,
    InferSpec,
    ModelBlock,
    ReportSpec,
    TrainSpec,
)
from hbseg.runs.chain_specs import ChainSpecs
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
from hbseg.storage.store import Store
from hbseg_jobs.entry import StepContext
from tests.integration.fakes import fake_step

MODULES = {
    step: f"tests.integration.fakes.{'fake_train' if step.row.torchrun else 'fake_step'}"
    for step in Step
}


def chain_specs(version: str) -> ChainSpecs:
    """Return the specs of a chain on a dataset version."""
    dataset = DatasetBlock(version=version)
    return ChainSpecs(
        {
            Step.STAGE1: TrainSpec(model=ModelBlock(), dataset=dataset),
            Step.STAGE2: TrainSpec(stage=2, dataset=dataset),
            Step.COMPILE: CompileSpec(),
            Step.INFER: InferSpec(),
            Step.EFFICIENCY: EfficiencySpec(),
            Step.REPORT: ReportSpec(),
        }
    )


def plant(run: Run, data: Store, task: Task, work: Path) -> None:
    """Leave what the fake step of `task` leaves, without running it."""
    fake_step.finish(StepContext(task, run, data, work, attempt=1))
    run.summarise(steps={task.prefix: "done"})
