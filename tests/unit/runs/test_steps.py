"""The table of steps: what must hold for every row, a further one included."""

from __future__ import annotations

import importlib.util

import pytest

from hbseg.config.specs import CompileSpec, EfficiencySpec
from hbseg.control.specs import default_spec
from hbseg.runs.steps import Step, TaskName, folders, is_step, stage_step, step_named


def test_a_folder_belongs_to_one_step_and_leads_back_from_a_tasks_name() -> None:
    names = [folder.name for _, folder in folders()]

    assert len(names) == len(set(names))
    assert all(name.isalnum() and name.islower() for name in names)
    for step, folder in folders():
        prefix = folder.name if folder.key is None else f"{folder.name}/0a1b2c3d4e5f"
        name = TaskName(prefix)
        assert (TaskName.parse(str(name)), name.step) == (name, step)


@pytest.mark.parametrize("step", list(Step))
def test_a_row_names_things_that_are_there(step: Step) -> None:
    row = step.row
    known = {folder.name for _, folder in folders()}

    assert isinstance(default_spec(row.config), row.spec)
    assert importlib.util.find_spec(row.module) is not None
    assert {item.folder for item in row.inputs} <= {*known, None}
    for item in row.inputs:
        assert set(item.match) <= set(CompileSpec.model_fields)
        assert set(item.match.values()) <= set(row.spec.model_fields)
        assert item.named_by is None or item.named_by in row.spec.model_fields
    for folder in row.folders:
        assert set(folder.when) <= set(row.spec.model_fields)


def test_one_engine_is_one_input_where_a_step_asks_twice_for_the_same() -> None:
    def names(spec: EfficiencySpec) -> list[str]:
        return [item.name for item in Step.EFFICIENCY.inputs_for(spec)]

    two = ["engine", "throughput_engine", "checkpoint", "dataset"]
    assert names(EfficiencySpec(throughput_batch_size=8)) == two
    assert names(EfficiencySpec(batch_size=8, throughput_batch_size=8)) == [two[0], *two[2:]]


def test_the_inputs_of_a_step_come_before_it() -> None:
    made: set[str] = set()
    for step in Step:
        assert {item.folder for item in step.row.inputs if item.folder} <= made, step
        made |= {folder.name for folder in step.row.folders}


def test_steps_are_found_by_name_stage_and_task() -> None:
    assert step_named("infer") is Step.INFER
    assert [stage_step(stage) for stage in (1, 2)] == [Step.STAGE1, Step.STAGE2]
    assert is_step("engine-0a1b2c3d4e5f")
    assert not is_step("pipeline")
    with pytest.raises(ValueError, match="no step distill"):
        step_named("distill")
