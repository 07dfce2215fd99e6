"""Steps that fail in pods: what is tried again, and with which words it ends."""

from __future__ import annotations

from hbseg.runs.attempts import read_failure
from hbseg.runs.steps import Step
from tests.cluster.cluster import until
from tests.cluster.crew import PREPARE, TRAIN, fake, row
from tests.cluster.team import Team


def test_memory_that_runs_out_is_tried_once_more_and_then_named(crew: Team) -> None:
    # so much that the rank, which takes all that is left, has more than torchrun when it ends
    small = fake(crew, stage1=["oom"]).with_profile(memory_per_process="1Gi")

    line = small.api_error(100, *TRAIN, "--wait")

    assert "137" in line
    assert "memory" in line
    assert "attempt 2" in line
    assert row(small)["state"] == "failed"
    assert "memory" in str(row(small)["reason"])
    failure = read_failure(small.run("drill"), Step.STAGE1, 2)
    assert failure is not None
    assert (failure.code, failure.rank) == (137, 0)


def test_a_permanent_failure_ends_the_job_at_once_with_its_reason(crew: Team) -> None:
    line = fake(crew, stage1=["fail 65"]).api_error(100, *TRAIN, "-j", "2x1", "--wait")

    assert "failed with code 65 in attempt 1: planned failure 65" in line


def test_a_failure_that_passes_is_tried_again_by_the_operator(crew: Team) -> None:
    faking = fake(crew, stage1=["fail 170", "ok"], prepare=["fail 170", "ok"])
    faking.hbseg(*PREPARE)
    faking.hbseg(*TRAIN, "--wait")
    until(lambda: row(crew, "prepare")["state"] == "done", "prepare is done")

    assert row(crew)["attempt"] == 2
    assert row(crew, "prepare")["attempt"] == 2


def test_retries_that_are_used_up_end_the_job_with_the_cause(crew: Team) -> None:
    line = fake(crew, stage1=["fail 170"]).api_error(100, *TRAIN, "--retries", "1", "--wait")

    assert "failed with code 170 in attempt 2: planned failure 170" in line
    assert "planned failure" in crew.hbseg("logs", "drill").stdout
