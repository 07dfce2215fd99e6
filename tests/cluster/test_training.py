"""Real trainings in real pods: DDP over the pod network, data from S3, and the same results as
processes of this machine have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from hbseg.data.prepare import prepare
from hbseg.local.s3server import EmbeddedS3
from hbseg.markers import Marker, read_marker
from hbseg.specs import PrepareSpec
from hbseg.store import Store, open_store
from tests.cluster.team import Team
from tests.small import CHAIN, STAGE1
from tests.trainings import left_by

pytestmark = pytest.mark.own_node  # torch reaches pods through a volume of our node


@dataclass(frozen=True)
class Here:
    """Runs of the local backend, in the same bucket."""

    data: str
    runs: str
    folder: Path
    environment: dict[str, str]

    def hbseg(self, *words: str) -> None:
        """Run a command on the local backend."""
        done = subprocess.run(
            [sys.executable, "-m", "hbseg_cli.main", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def marker(self, run: str, prefix: str) -> Marker:
        """Return the marker of a task."""
        return read_marker(open_store(self.runs).folder(run).folder(prefix))


@pytest.fixture(scope="module")
def here(
    s3_server: EmbeddedS3,
    bucket: str,
    raw_set: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Here:
    """This machine, with a dataset that teams may read too."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "stage1.yaml").write_text(STAGE1)
    (folder / "chain.yaml").write_text(CHAIN)
    place = Here(f"s3://{bucket}/data", f"s3://{bucket}/here", folder, {})
    prepare(raw_set, open_store(place.data), PrepareSpec(), workers=2)
    own = {"HBSEG_BACKEND": "local", "HBSEG_STATE": str(folder / "state"), "HOME": str(folder)}
    own |= {"HBSEG_DATA": place.data, "HBSEG_RUNS": place.runs, **s3_server.environment}
    place.environment.update({**os.environ, **own})
    return place


EPOCHS = 40
"""So many that a pod which is deleted after the first is deleted in the middle: each has a step
and a checkpoint in storage, and a deletion is heard of within two or three."""


def train(here: Here, *words: str) -> list[str]:
    config = str(here.folder / "stage1.yaml")
    own = ["--config", config, "--data", here.data, "--set", f"run.epochs={EPOCHS}"]
    return ["submit-train", "--stage", "1", *own, *words]


@pytest.fixture(scope="module")
def two_processes(here: Here) -> Store:
    """Stage 1 by two processes of this machine."""
    here.hbseg(*train(here, "--run", "two", "-j", "1x2", "--wait"))
    return open_store(here.runs).folder("two/stage1")


def assert_equal(mine: Store, theirs: Store) -> None:
    """Fail unless two trainings have left the same, to the last bit of the optimiser."""
    assert read_marker(mine).spec_hash == read_marker(theirs).spec_hash
    assert read_marker(mine).outputs == read_marker(theirs).outputs
    assert left_by(mine) == left_by(theirs)


def test_two_pods_train_to_the_weights_of_two_processes(
    here: Here, two_processes: Store, team: Team
) -> None:
    done = team.hbseg(*train(here, "--run", "pods", "-j", "2x1", "--follow"))

    assert_equal(team.run("pods").folder.folder("stage1"), two_processes)
    assert f"[0] epoch {EPOCHS}/{EPOCHS}" in done.stderr
    assert "[1] rank 1 of 2" in done.stderr
    for rank in (0, 1):  # the pods may be gone: their logs are in storage
        assert f"rank {rank} of 2" in team.hbseg("logs", "pods", "--rank", str(rank)).stdout


def test_a_pod_that_is_deleted_in_the_middle_changes_nothing_in_the_end(
    here: Here, two_processes: Store, team: Team
) -> None:
    team.hbseg(*train(here, "--run", "storm", "-j", "2x1"))
    following = team.start("logs", "storm", "-f")
    assert following.stdout is not None
    assert any(f"[0] epoch 1/{EPOCHS}" in line for line in following.stdout)
    team.namespace.kubectl("delete", "pod", "storm-stage1-worker-1", "--wait=false")

    team.hbseg(*train(here, "--run", "storm", "-j", "2x1", "--wait"))

    following.communicate()
    run = team.run("storm")
    assert_equal(run.folder.folder("stage1"), two_processes)
    assert run.folder.exists("attempts/stage1/2.json")
    assert "going on from step" in team.hbseg("logs", "storm").stdout


def test_the_whole_chain_in_pods_has_the_bytes_of_the_chain_here(
    here: Here, team: Team, raw_set: Path
) -> None:
    config = str(here.folder / "chain.yaml")
    here.hbseg("pipeline", "run", "chain", "-j", "1x2", "--config", config)
    raw = open_store(f"{team.url}/raw")
    for path in sorted(path for path in raw_set.rglob("*") if path.is_file()):
        raw.upload(path.relative_to(raw_set).as_posix(), path)

    words = ["pipeline", "run", "chain", "-j", "1x2", "--config", config, "--raw", raw.url]
    done = team.hbseg(*words)

    assert "prepare                  done" in done.stderr
    for prefix in ("stage1", "stage2", "infer", "valid"):
        marker = read_marker(team.run("chain").folder.folder(prefix))
        assert marker.outputs == here.marker("chain", prefix).outputs, prefix
        assert marker.digest == here.marker("chain", prefix).digest, prefix
    states = json.loads(team.hbseg("status", "chain", "-o", "json").stdout)["tasks"]
    assert {row["state"] for row in states} == {"done"}
    team.hbseg("fetch-submission", "chain", "--to", str(team.folder / "submission.csv"))
    assert (team.folder / "submission.csv").read_text().count("\n") == 4 * 29 + 1
