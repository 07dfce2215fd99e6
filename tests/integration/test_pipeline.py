"""The pipeline over fake steps: what it skips, repeats, waits for and refuses."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from hbseg.config.placement import Placement
from hbseg.config.specs import CompileSpec, DatasetBlock, EfficiencySpec, InferSpec, TrainSpec
from hbseg.control.pipeline import Event, Pipeline, Started, start_task
from hbseg.control.status import statuses
from hbseg.errors import Cancelled, ConflictError, SpecError, StepFailed, UnreachableError
from hbseg.runs.backend import Phase
from hbseg.runs.chain import chain, find_engine, latest_finished, make_task, reached
from hbseg.runs.chain_specs import ChainSpecs
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
from hbseg.storage.markers import MARKER, read_marker, write_marker
from hbseg.storage.opening import open_store
from hbseg.system import gpu
from tests.conftest import S3Place
from tests.integration.conftest import FAKES, VERSION, Local, until
from tests.integration.fakes.fake_chain import plant


def run_pipeline(local: Local, specs: ChainSpecs | None = None) -> list[str]:
    """Run the chain and return what happened, as `<what> <prefix>`; keys are left out."""
    events: list[Event] = []
    pipeline = Pipeline(
        local.backend, local.run, local.data, specs or local.specs(), on_event=events.append
    )
    try:
        pipeline.run()
    finally:
        told = [f"{event.happening} {event.task.prefix.partition('/')[0]}" for event in events]
    return told


def stage1_task(local: Local) -> Task:
    spec = local.specs().get(Step.STAGE1, TrainSpec)
    return make_task(local.run, local.data, Step.STAGE1, spec)


CHAIN = ["stage1", "stage2", "engine", "engine", "infer", "valid", "efficiency", "report"]


def test_a_chain_runs_once_and_is_skipped_afterwards(local: Local) -> None:
    first = run_pipeline(local)
    second = run_pipeline(local)

    assert first == [f"{what} {step}" for step in CHAIN for what in ("started", "done")]
    assert second == [f"skipped {step}" for step in CHAIN]
    claim = local.run.read()
    assert set(claim.steps.values()) == {"done"}
    assert claim.dice == 0.5
    states = statuses(local.backend, local.run, claim)
    assert [status.step for status in states] == sorted(
        (status.step for status in states), key=list(type(states[0].step)).index
    )
    assert all(done for _, done in reached(local.run, local.data, local.specs()))
    inputs = {
        task.prefix.partition("/")[0]: {item.name for item in task.inputs}
        for task in chain(local.run, local.data, local.specs())
    }
    assert inputs == {
        "stage1": {"dataset"},
        "stage2": {"dataset", "checkpoint"},
        "engine": {"dataset", "checkpoint"},
        "infer": {"dataset", "engine"},
        "valid": {"dataset", "engine"},
        "efficiency": {"dataset", "checkpoint", "engine", "throughput_engine"},
        "report": {"dataset", "stage1", "stage2", "valid", "infer", "efficiency"},
    }


def test_a_changed_spec_makes_its_step_and_all_after_it_run_again(local: Local) -> None:
    local.plant()
    before = read_marker(local.run.folder.folder("stage1")).digest
    specs = local.specs()
    stage2 = specs.get(Step.STAGE2, TrainSpec)
    longer = stage2.run.model_copy(update={"epochs": 3})
    changed = specs.replaced({Step.STAGE2: stage2.model_copy(update={"run": longer})})

    told = run_pipeline(local, changed)

    assert told[0] == "skipped stage1"
    assert told[1:] == [f"{what} {step}" for step in CHAIN[1:] for what in ("started", "done")]
    assert read_marker(local.run.folder.folder("stage1")).digest == before


def test_a_failure_says_step_code_reason_and_where_the_logs_are(local: Local) -> None:
    local.plant(4)
    local.fake(infer=["fail 65", "ok"])

    with pytest.raises(StepFailed) as error:
        run_pipeline(local)

    assert "infer of run first failed with code 65 in attempt 1: planned failure 65" in str(
        error.value
    )
    assert error.value.hint == "see: hbseg logs first --step infer"
    assert error.value.exit_code == 100
    assert local.run.read().steps["infer"] == "failed"
    failed = [
        s for s in statuses(local.backend, local.run, local.run.read()) if s.state == "failed"
    ]
    assert [(s.prefix, s.attempt) for s in failed] == [("infer", 1)]
    assert run_pipeline(local)[:6] == [
        *(f"skipped {step}" for step in CHAIN[:4]),
        "started infer",
        "done infer",
    ]


def test_a_cancelled_step_ends_the_pipeline_as_cancelled(local: Local) -> None:
    local.fake(stage1=["wait"])
    with start_pipeline(local) as process:
        until(lambda: local.backend.state(local.run, "stage1").attempt == 1, "stage1 runs")
        local.until_log(local.task(Step.STAGE1), "acts: wait")
        assert local.backend.cancel(local.run, "stage1")
        _, errors = process.communicate()

    assert Cancelled.__name__ in errors
    assert local.run.read().steps["stage1"] == "cancelled"


def start_pipeline(local: Local) -> "subprocess.Popen[str]":
    command = [
        *(sys.executable, str(FAKES / "fake_pipeline.py")),
        *(str(local.folder / "runs"), local.data.url, VERSION),
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def test_a_killed_pipeline_leaves_its_step_running_and_the_next_one_waits_for_it(
    local: Local,
) -> None:
    gate = local.folder / "gate"
    local.fake(stage1=[f"gate {gate}"])
    with start_pipeline(local) as process:
        until(lambda: local.backend.state(local.run, "stage1").attempt == 1, "stage1 runs")
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert local.backend.state(local.run, "stage1").phase == Phase.RUNNING

    gate.touch()
    events: list[str] = []
    task = stage1_task(local)
    pipeline = Pipeline(
        local.backend,
        local.run,
        local.data,
        local.specs(),
        on_event=lambda event: events.append(event.happening),
    )
    with local.backend.exclusive(local.run):  # the killed one has it no more
        pipeline.do(task)

    assert events in (["joined", "done"], ["skipped"])
    attempts = [entry.key for entry in local.run.folder.list("attempts/stage1/")]
    assert attempts == ["attempts/stage1/1.json", "attempts/stage1/1/0.json"]


def test_a_step_that_runs_with_another_spec_is_waited_for_and_then_done_again(
    local: Local,
) -> None:
    gate = local.folder / "gate"
    local.fake(stage1=[f"gate {gate}", "ok"])
    other = local.specs().get(Step.STAGE1, TrainSpec)
    other = other.model_copy(update={"run": other.run.model_copy(update={"epochs": 3})})
    task = make_task(local.run, local.data, Step.STAGE1, other)
    local.submit(task)
    local.until_log(task, "acts: gate")
    events: list[str] = []

    def tell(event: Event) -> None:
        events.append(event.happening)
        gate.touch()

    mine = stage1_task(local)
    Pipeline(local.backend, local.run, local.data, local.specs(), on_event=tell).do(mine)

    assert events == ["joined", "started", "done"]


def test_a_listing_that_cannot_be_written_warns_and_stops_nothing(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(self: Run, **summary: object) -> None:
        raise UnreachableError("storage is down")

    local.plant(4)
    monkeypatch.setattr(Run, "summarise", down)
    local.fake(infer=["fail 65"])

    said: list[str] = []
    pipeline = Pipeline(local.backend, local.run, local.data, local.specs(), tell=said.append)
    with pytest.raises(StepFailed):
        pipeline.run()

    assert "warning: the listing of run first is out of date: storage is down" in said


def test_what_was_made_from_older_inputs_is_stale(local: Local) -> None:
    local.plant()

    def states() -> dict[str, str]:
        found = statuses(local.backend, local.run, local.run.read())
        return {status.prefix.partition("/")[0]: status.state for status in found}

    assert set(states().values()) == {"done"}
    stage1 = local.run.folder.folder("stage1")
    marker = read_marker(stage1)
    write_marker(stage1, step="stage1", spec_hash="new", inputs=marker.inputs, outputs={})
    assert states() == {
        "stage1": "done",
        **dict.fromkeys(["stage2", "engine", "infer", "valid", "efficiency", "report"], "stale"),
    }

    stage2 = local.run.folder.folder("stage2")
    spec = TrainSpec(stage=2, init_from=str(local.folder / "elsewhere"))
    stage2.put("spec.yaml", spec.to_yaml().encode())
    assert {step for step, state in states().items() if state == "stale"} == {"report"}


def test_a_second_pipeline_on_the_run_is_refused(local: Local) -> None:
    with local.backend.exclusive(local.run), pytest.raises(ConflictError) as error:
        run_pipeline(local)

    assert error.value.exit_code == 5
    assert "another pipeline is at work on run first" in str(error.value)


def test_a_run_of_somebody_else_is_refused(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")

    with pytest.raises(ConflictError, match="belongs to"):
        run_pipeline(local)


def test_stage_2_needs_a_stage_1_or_a_checkpoint(local: Local) -> None:
    spec = TrainSpec(stage=2, dataset=DatasetBlock(version=VERSION))
    with pytest.raises(ConflictError) as error:
        make_task(local.run, local.data, Step.STAGE2, spec)
    assert error.value.exit_code == 5
    assert "hbseg submit-train --stage 1 --run first, or give --ckpt URL" in str(error.value)

    elsewhere = open_store(local.folder / "elsewhere")
    given = spec.model_copy(update={"init_from": elsewhere.url})
    with pytest.raises(ConflictError, match="no finished checkpoint"):
        make_task(local.run, local.data, Step.STAGE2, given)
    write_marker(elsewhere, step="stage1", spec_hash="x", inputs={}, outputs={})
    task = make_task(local.run, local.data, Step.STAGE2, given)
    assert task.inputs[1].folder.url == elsewhere.url


def test_a_submit_of_a_done_task_starts_nothing_unless_it_is_wanted_again(local: Local) -> None:
    task = stage1_task(local)
    placement = Placement()

    outcome, _ = start_task(local.backend, local.run, task, placement, data=local.data)
    assert outcome == Started.STARTED
    assert not task.folder.exists(MARKER)
    local.wait(task)
    outcome, state = start_task(local.backend, local.run, task, placement, data=local.data)
    assert (outcome, state.phase) == (Started.DONE, Phase.SUCCEEDED)

    outcome, _ = start_task(local.backend, local.run, task, placement, data=local.data, again=True)
    assert outcome == Started.STARTED
    assert not task.folder.exists(MARKER)
    local.wait(task)
    assert task.is_done()


def test_engines_are_found_by_their_batch_size(local: Local) -> None:
    local.plant()
    for task in chain(local.run, local.data, local.specs()):
        if task.prefix.startswith("engine/"):
            card = {"batch_size": getattr(task.spec, "batch_size", 0)}
            task.folder.put("engine.json", json.dumps(card).encode())
    single = make_task(local.run, local.data, Step.COMPILE, CompileSpec(batch_size=1))

    assert find_engine(local.run, 1).prefix == single.prefix
    assert find_engine(local.run, 8).prefix != single.prefix
    with pytest.raises(ConflictError, match="compiled for batch size 1, 8, asked for 4") as error:
        find_engine(local.run, 4)
    assert error.value.hint == "run: hbseg submit-compile first --batch-size-eval 4"
    expected = f"efficiency/{single.prefix.partition('/')[2]}"
    assert latest_finished(local.run, "efficiency") == expected


def test_one_batch_size_for_all_makes_one_engine(local: Local) -> None:
    specs = local.specs()
    batch_size = specs.get(Step.INFER, InferSpec).batch_size
    specs = specs.replaced({Step.EFFICIENCY: EfficiencySpec(batch_size=batch_size)})

    local.run.claim(data=local.data.url)
    steps = []
    for task in chain(local.run, local.data, specs):
        plant(local.run, local.data, task, local.folder / "work")
        steps.append(task.step)

    assert steps == [step for step in Step if step.row.in_chain for _ in specs.of_step(step)]
    assert steps.count(Step.COMPILE) == 1
    found = statuses(local.backend, local.run, local.run.read())
    assert {status.state for status in found} == {"done"}


def test_what_is_done_needs_no_gpu(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DEVICES", local.folder)
    specs = local.specs().replaced({Step.COMPILE: CompileSpec(engine="tensorrt")})
    tasks = []
    for task in chain(local.run, local.data, specs):
        plant(local.run, local.data, task, local.folder / "work")
        tasks.append(task)

    assert run_pipeline(local, specs) == [f"skipped {step}" for step in CHAIN]
    tasks[-1].folder.delete(MARKER)
    assert run_pipeline(local, specs)[-2:] == ["started report", "done report"]
    next(task for task in tasks if task.step == Step.EFFICIENCY).folder.delete(MARKER)
    with pytest.raises(SpecError, match="this machine has none"):
        run_pipeline(local, specs)


def test_a_chain_runs_against_real_s3_and_its_claim_is_there(local: Local, s3: S3Place) -> None:
    data = open_store(f"{s3.url}/data")
    write_marker(
        data.folder(f"versions/{VERSION}"), step="prepare", spec_hash="x", inputs={}, outputs={}
    )
    run = Run(open_store(f"{s3.url}/runs"), "second")
    run.claim(data=data.url)
    replace(local, run=run, data=data).plant(4)

    done = Pipeline(local.backend, run, data, local.specs()).run()

    assert len(done) == len(CHAIN)
    keys = [entry.key for entry in run.folder.list("logs/")]
    assert "logs/infer/1/0.log" in keys
    assert run.read().steps["report"] == "done"
