"""Real trainings in real pods: DDP over the pod network, data from S3, and the same results by
other processes. Bits are compared of processes on one kind of CPU."""

from __future__ import annotations

import pytest

from hbseg.storage.markers import read_marker
from hbseg.storage.store import Store
from tests.cluster.ground import Ground
from tests.cluster.namespace import fresh_namespace
from tests.cluster.team import Team, team_of
from tests.small import STAGE1
from tests.trainings import left_by

EPOCHS = 20
"""So many that a pod which is deleted after the first is deleted in the middle: each has a step
and a checkpoint in storage, and a deletion is heard of within two or three."""


def train(data: str, team: Team, *words: str) -> list[str]:
    """Return the words of a training of the team's."""
    (team.folder / "stage1.yaml").write_text(STAGE1)
    own = ["--config", "stage1.yaml", "--data", data, "--set", f"run.epochs={EPOCHS}"]
    return ["submit-train", "--stage", "1", *own, *words]


@pytest.fixture(scope="module")
def two_processes(
    ground: Ground, bucket: str, data: str, tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """Stage 1 by two processes of one pod."""
    home = tmp_path_factory.mktemp("two")
    with (
        ground.turn(alone=False),
        fresh_namespace(ground) as namespace,
        team_of(namespace, bucket, home) as team,
    ):
        team.hbseg(*train(data, team, "--run", "two", "-j", "1x2", "--wait"))
        return team.run("two").folder.folder("stage1")


def assert_equal(mine: Store, theirs: Store) -> None:
    """Fail unless two trainings have left the same, to the last bit of the optimiser."""
    assert read_marker(mine).spec_hash == read_marker(theirs).spec_hash
    assert read_marker(mine).outputs == read_marker(theirs).outputs
    assert left_by(mine) == left_by(theirs)


def test_two_pods_train_to_the_weights_of_two_processes_of_one_pod(
    data: str, two_processes: Store, team: Team
) -> None:
    done = team.hbseg(*train(data, team, "--run", "pods", "-j", "2x1", "--follow"))

    assert_equal(team.run("pods").folder.folder("stage1"), two_processes)
    assert f"[0] epoch {EPOCHS}/{EPOCHS}" in done.stderr
    assert "[1] rank 1 of 2" in done.stderr
    for rank in (0, 1):  # the pods may be gone: their logs are in storage
        assert f"rank {rank} of 2" in team.hbseg("logs", "pods", "--rank", str(rank)).stdout


def test_a_pod_that_is_deleted_in_the_middle_changes_nothing_in_the_end(
    data: str, two_processes: Store, team: Team
) -> None:
    team.hbseg(*train(data, team, "--run", "storm", "-j", "2x1"))
    following = team.start("logs", "storm", "-f")
    assert following.stdout is not None
    assert any(f"[0] epoch 1/{EPOCHS}" in line for line in following.stdout)
    team.namespace.kubectl("delete", "pod", "storm-stage1-worker-1", "--wait=false")

    team.hbseg(*train(data, team, "--run", "storm", "-j", "2x1", "--wait"))

    following.communicate()
    run = team.run("storm")
    assert_equal(run.folder.folder("stage1"), two_processes)
    assert run.folder.exists("attempts/stage1/2.json")
    assert "resuming from step" in team.hbseg("logs", "storm").stdout
