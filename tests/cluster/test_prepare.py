"""The step prepare as a batch Job: a raw set in S3 becomes the version that its folder makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hbseg.config.specs import PrepareSpec
from hbseg.data.prepare import prepare
from hbseg.data.synth import write_raw_set
from hbseg.data.versions import read_index
from hbseg.storage.opening import open_store
from tests.cluster.team import Team


@pytest.fixture(scope="module")
def raw_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw_set(folder, hands=4, test_hands=2, seed=1)
    return folder


def test_a_pod_prepares_what_is_prepared_here(team: Team, raw_folder: Path, tmp_path: Path) -> None:
    here = prepare(raw_folder, open_store(tmp_path / "here"), PrepareSpec(folds=2))
    raw = open_store(f"{team.url}/raw")
    for path in raw_folder.rglob("*"):
        if path.is_file():
            raw.upload(str(path.relative_to(raw_folder)), path)
    words = ("data", "prepare", raw.url, "--set", "folds=2", "--wait", "-o", "json")

    made = json.loads(team.hbseg(*words).stdout)
    again = json.loads(team.hbseg(*words).stdout)

    assert (made["version"], made["unchanged"], again["unchanged"]) == (here.version, False, True)
    assert read_index(open_store(f"{team.url}/data")).current == here.version
    raw.put(next(entry.key for entry in raw.list("train/DCM/")), b"no picture")
    refused = team.api_error(100, *words)
    assert "code 65" in refused
    assert f"{raw.url} has 1 errors" in refused
