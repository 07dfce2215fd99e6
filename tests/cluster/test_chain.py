"""The chain in real pods, from a raw set in S3 to a submission: the bytes that it has here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from hbseg.storage.markers import read_marker
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.cluster.ground import Ground
from tests.cluster.namespace import fresh_namespace
from tests.cluster.team import team_of
from tests.small import small_chain
from tests.trainings import left_by

CHAIN = small_chain(batch_size=1)
"""Batches of one, where tests/chain has four."""


@dataclass(frozen=True)
class Chain:
    """The whole chain, as a team had it made in pods."""

    run: Store
    told: str
    """What the pipeline said."""
    states: set[str]
    submission: str


@pytest.fixture(scope="module")
def chain(
    ground: Ground, bucket: str, raw_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> Chain:
    """The chain from a raw set in S3 on."""
    home = tmp_path_factory.mktemp("chain")
    (home / "chain.yaml").write_text(CHAIN)
    with (
        ground.turn(alone=False),
        fresh_namespace(ground) as namespace,
        team_of(namespace, bucket, home) as team,
    ):
        raw = open_store(f"{team.url}/raw")
        for path in sorted(path for path in raw_set.rglob("*") if path.is_file()):
            raw.upload(path.relative_to(raw_set).as_posix(), path)
        words = ("-j", "1x2", "--config", "chain.yaml", "--raw", raw.url)
        done = team.hbseg("pipeline", "run", "chain", *words)
        states = json.loads(team.hbseg("status", "chain", "-o", "json").stdout)["tasks"]
        team.hbseg("fetch-submission", "chain", "--to", "submission.csv")
        return Chain(
            team.run("chain").folder,
            done.stderr,
            {row["state"] for row in states},
            (home / "submission.csv").read_text(),
        )


def test_the_whole_chain_in_pods_ends_in_a_submission(chain: Chain) -> None:
    assert "prepare                  done" in chain.told
    assert chain.states == {"done"}
    assert chain.submission.count("\n") == 4 * 29 + 1


@pytest.mark.own_node  # its pods have this machine's CPU
def test_the_chain_in_pods_has_the_bytes_of_the_chain_here(
    chain: Chain, ground: Ground, bucket: str, data: str, tmp_path: Path
) -> None:
    runs = f"s3://{bucket}/here"
    (tmp_path / "chain.yaml").write_text(CHAIN)
    own = {"HBSEG_BACKEND": "local", "HBSEG_STATE": str(tmp_path / "state"), "HOME": str(tmp_path)}
    own |= {"HBSEG_DATA": data, "HBSEG_RUNS": runs, **ground.s3.environment}
    words = ["pipeline", "run", "chain", "-j", "1x2", "--config", "chain.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "hbseg_cli", *words],
        cwd=tmp_path,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    here = open_store(runs).folder("chain")
    for prefix in ("stage1", "stage2", "infer", "valid"):
        mine, theirs = (read_marker(run.folder(prefix)) for run in (chain.run, here))
        assert mine.outputs == theirs.outputs, prefix
        assert mine.digest == theirs.digest, prefix
    for stage in ("stage1", "stage2"):
        assert left_by(chain.run.folder(stage)) == left_by(here.folder(stage)), stage
