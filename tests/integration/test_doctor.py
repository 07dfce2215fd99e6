"""The doctor on a real S3 server that does not let us in: from here, and as a pod looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hbseg import __version__
from hbseg.doctor.check import Status
from hbseg.doctor.report import DoctorReport
from hbseg.doctor.storage import storage
from hbseg_jobs.probe import main
from tests.conftest import S3Place

Change = Callable[[pytest.MonkeyPatch, Path], None]


def wrong_secret(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")


def no_keys(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(params=[wrong_secret, no_keys])
def locked(
    request: pytest.FixtureRequest, s3: S3Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> S3Place:
    """A bucket for which the environment has unusable keys."""
    change: Change = request.param
    change(monkeypatch, tmp_path)
    return s3


def assert_failed(report: DoctorReport) -> None:
    (read,) = [check for check in report.checks if check.name == "runs: read"]
    assert read.status == Status.FAILED
    assert "AWS_ACCESS_KEY_ID" in read.fix
    assert report.exit_code == 5


def test_keys_that_storage_refuses_fail_the_doctor(locked: S3Place) -> None:
    found = tuple(storage({"runs": f"{locked.url}/runs"}))

    assert_failed(DoctorReport(backend="local", checks=found))


def test_a_pod_with_keys_that_storage_refuses_says_so(
    locked: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HBSEG_TERMINATION_LOG", str(tmp_path / "log"))

    main(["--expect", __version__, f"--folder=runs={locked.url}/runs"])

    assert_failed(DoctorReport.from_text((tmp_path / "log").read_bytes(), source="log"))
