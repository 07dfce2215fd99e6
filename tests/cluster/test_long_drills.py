"""Slower drills, for `make test-long`: a cancel in every step, a stall, a drained node."""

from __future__ import annotations

import json

import pytest

from tests.cluster.cluster import until
from tests.cluster.crew import TRAIN, VERSION, fake, row
from tests.cluster.node.addresses import NODE
from tests.cluster.team import Team

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CHAIN = ("stage1", "stage2", "compile", "infer", "efficiency", "report")
CHAIN_STATES_SECONDS = 300.0


def test_a_cancel_in_every_step_of_the_chain_is_told_and_the_chain_goes_on(crew: Team) -> None:
    waiting = fake(crew, **{name: ["wait", "ok"] for name in CHAIN})
    pinned = [f"--set={stage}.dataset.version={VERSION}" for stage in CHAIN[:2]]
    cancelled: list[str] = []
    for _ in range(2 * len(CHAIN)):
        with waiting.start("pipeline", "run", "drill", *pinned) as pipeline:
            until(lambda: pipeline.poll() is not None or is_waiting(waiting), "a step waits")
            if pipeline.poll() is None:
                crew.hbseg("cancel", "drill", "-y")
            _, told = pipeline.communicate(timeout=CHAIN_STATES_SECONDS)
        if pipeline.returncode == 0:
            break
        assert pipeline.returncode == 103, told
        cancelled += [item["step"] for item in rows(crew) if item["state"] == "cancelled"]

    assert cancelled == list(CHAIN)
    assert {item["state"] for item in rows(crew)} == {"done"}


def rows(crew: Team) -> list[dict[str, str]]:
    told = json.loads(crew.hbseg("status", "drill", "-o", "json").stdout)
    tasks: list[dict[str, str]] = told["tasks"]
    return tasks


def is_waiting(crew: Team) -> bool:
    """Return whether a pod says that its step waits."""
    pods = crew.namespace.kubectl(
        "get", "pods", "-l", "hbseg.io/run=drill", "--field-selector=status.phase=Running", "-oname"
    )
    logs = [crew.namespace.kubectl("logs", pod) for pod in pods.split()]
    return any("acts: wait" in log for log in logs)


def test_a_rank_that_hangs_is_named_and_started_again(crew: Team) -> None:
    hanging = fake(crew, stage1=["hang 1", "meet"])

    done = hanging.hbseg(*TRAIN, "-j", "2x1", "--stall-timeout", "15", "--follow")

    assert "rank 1 stalled" in done.stderr
    assert row(crew)["attempt"] == 2
    assert row(crew)["state"] == "done"


@pytest.mark.own_node
def test_a_drained_node_costs_no_retry(crew: Team) -> None:
    waiting = fake(crew, stage1=["wait", "ok"])
    waiting.hbseg(*TRAIN, "--retries", "0")
    until(lambda: is_waiting(waiting), "the step waits")
    cluster = crew.namespace.cluster

    words = ("--force", "--pod-selector=hbseg.io/run=drill", "--disable-eviction=false")
    cluster.kubectl("drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", *words)
    until(lambda: "cordoned" in str(row(crew)["reason"]), "the cordon is the reason")
    cluster.kubectl("uncordon", NODE)

    until(lambda: row(crew)["state"] == "done", "it ends well")
    assert row(crew)["attempt"] == 2
