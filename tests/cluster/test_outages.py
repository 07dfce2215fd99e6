"""Parts of the cluster that go down and come back."""

from __future__ import annotations

import pytest

from hbseg.storage.opening import open_store
from tests.cluster.cluster import STATE_SECONDS, OwnCluster
from tests.cluster.crew import TRAIN, fake, is_gone, row
from tests.cluster.team import Team


@pytest.mark.own_node
@pytest.mark.drill
def test_an_operator_that_is_down_is_named_at_submit_and_then_is_back(
    crew: Team, own_cluster: OwnCluster
) -> None:
    own_cluster.stop_component("training-operator")
    try:
        line = crew.api_error(4, *TRAIN)
    finally:
        own_cluster.start_component("training-operator")

    assert "operator" in line
    assert is_gone(crew, "pytorchjobs")
    crew.hbseg(*TRAIN, "--wait")


@pytest.mark.own_node
@pytest.mark.drill
def test_a_server_that_restarts_ends_neither_the_log_nor_the_wait(
    crew: Team, own_cluster: OwnCluster
) -> None:
    gated = fake(crew, stage1=["key gate"])
    gated.hbseg(*TRAIN)
    commands = [("logs", "drill", "-f"), (*TRAIN, "--wait")]
    follower, waiter = (gated.start(*words) for words in commands)
    assert follower.stdout is not None
    assert waiter.stderr is not None
    assert any("acts: key gate" in line for line in follower.stdout)
    assert any("running already" in line for line in waiter.stderr)  # submits are not repeated
    own_cluster.stop_component("kube-apiserver")
    own_cluster.start_component("kube-apiserver")
    open_store(f"{crew.url}/data").put("gate", b"")
    rest, _ = follower.communicate(timeout=STATE_SECONDS)
    _, told = waiter.communicate(timeout=STATE_SECONDS)

    assert "the gate is open" in rest
    assert (follower.returncode, waiter.returncode) == (0, 0), told
    assert row(crew)["state"] == "done"
