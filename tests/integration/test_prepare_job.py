"""The step prepare by the real launcher on a real S3, started by the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hbseg.config.specs import PrepareSpec
from hbseg.data.prepare import prepare
from hbseg.data.prepared import read_prepared
from hbseg.data.synth import write_raw_set
from hbseg.data.versions import read_index
from hbseg.storage.markers import read_marker
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.conftest import S3Place

Hbseg = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def raw_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw_set(folder, hands=4, test_hands=2, seed=1)
    return folder


@pytest.fixture
def raw(raw_folder: Path, s3: S3Place) -> Store:
    """The raw set in the bucket."""
    store = open_store(f"{s3.url}/raw 손")
    for path in raw_folder.rglob("*"):
        if path.is_file():
            store.upload(str(path.relative_to(raw_folder)), path)
    return store


@pytest.fixture
def hbseg(tmp_path: Path, s3: S3Place) -> Hbseg:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HBSEG_")},
        "HBSEG_BACKEND": "local",
        "HBSEG_RUNS": f"{s3.url}/runs",
        "HBSEG_DATA": f"{s3.url}/data",
        "HBSEG_STATE": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path),
    }

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "hbseg_cli", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def test_a_set_in_s3_becomes_the_version_that_its_folder_makes(
    hbseg: Hbseg, raw: Store, raw_folder: Path, s3: S3Place, tmp_path: Path
) -> None:
    here = prepare(raw_folder, open_store(tmp_path / "data"), PrepareSpec(folds=2))
    words = ("data", "prepare", raw.url, "--set", "folds=2", "--wait", "-o", "json")

    first = hbseg(*words)
    second = hbseg(*words)

    assert first.returncode == 0, first.stderr
    made, again = json.loads(first.stdout), json.loads(second.stdout)
    assert (made["kind"], made["version"], made["unchanged"]) == ("Prepared", here.version, False)
    assert made["counts"] == here.counts.model_dump()
    assert again == {**made, "unchanged": True}
    assert read_index(open_store(f"{s3.url}/data")).current == here.version
    folder = open_store(f"{s3.url}/runs/main/prepare")
    record, marker = read_prepared(folder), read_marker(folder)
    assert (record.raw, record.version) == (raw.url, here.version)
    assert (marker.metrics["images"], list(marker.records)) == (6, ["prepared.json"])
    assert not list((tmp_path / "state").rglob("*.png"))


def test_a_set_with_errors_is_refused_or_prepared_without_them(
    hbseg: Hbseg, raw: Store, tmp_path: Path
) -> None:
    bad = next(entry.key for entry in raw.list("train/DCM/"))
    raw.put(bad, b"no picture")

    refused = hbseg("data", "prepare", raw.url, "--set", "folds=2", "--wait")
    left_out = hbseg("data", "prepare", raw.url, "--set", "folds=2", "--wait", "--skip-bad")

    assert refused.returncode == 100
    assert f"code 65 in attempt 1: {raw.url} has 1 errors, the first in {bad}" in refused.stderr
    assert str(tmp_path / "state") not in refused.stderr
    assert left_out.returncode == 0, left_out.stderr
    assert f"left out {bad}: " in left_out.stderr


def test_a_place_without_a_set_ends_the_step_with_its_code(hbseg: Hbseg, s3: S3Place) -> None:
    missing = hbseg("data", "prepare", f"{s3.url}/nothing", "--wait")

    assert missing.returncode == 100
    assert f"code 66 in attempt 1: no raw set in {s3.url}/nothing" in missing.stderr


def test_a_started_prepare_says_where_to_look(hbseg: Hbseg, raw: Store) -> None:
    started = hbseg("data", "prepare", raw.url, "--set", "folds=2", "--run", "hands", "-o", "name")

    assert (started.returncode, started.stdout) == (0, "prepare\n")
    assert "see: hbseg logs hands --step prepare -f" in started.stderr
    assert hbseg("logs", "hands", "--step", "prepare", "-f").returncode == 0
    assert hbseg("cancel", "hands", "-y").returncode == 0


def test_pods_are_not_sent_to_a_folder(hbseg: Hbseg, raw_folder: Path) -> None:
    refused = hbseg("data", "prepare", str(raw_folder), "--backend", "kubernetes")

    assert refused.returncode == 2
    assert f"aws s3 sync {raw_folder} s3://BUCKET/raw" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
