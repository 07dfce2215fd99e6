from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hbseg.config.placement import Placement
from hbseg.config.pod_profile import Volume
from hbseg.config.profile import ClusterProfile
from hbseg.doctor.check import Status
from hbseg.doctor.pods_storage import pods_storage
from hbseg.doctor.storage import s3_date, storage
from hbseg.doctor.subject import Subject
from hbseg.storage.folder import FolderStore
from tests.unit.doctor.fake_cluster import FakeCluster


def test_pods_do_not_see_folders_of_this_machine(cluster: FakeCluster) -> None:
    mounted = ClusterProfile(volumes=(Volume(claim="c", path="/mnt/team"),))
    placement = Placement(cluster=mounted)

    (refused,) = pods_storage(Subject(cluster, placement, runs="/home/me/runs"))

    assert (refused.status, "/home/me/runs" in refused.message) == (Status.FAILED, True)
    assert list(pods_storage(Subject(cluster, placement, runs="/mnt/team/runs"))) == []


def test_the_pods_of_every_step_must_see_a_folder(cluster: FakeCluster) -> None:
    mounted = {"volumes": [{"claim": "c", "path": "/mnt/team"}]}
    steps = {"training": mounted, "others": mounted, "report": {"volumes": []}}
    profile = ClusterProfile.model_validate({"steps": steps})

    (check,) = pods_storage(Subject(cluster, Placement(cluster=profile), runs="/mnt/team/runs"))

    assert check.status == Status.FAILED
    assert check.message.endswith("/mnt/team/runs, which the pods of report do not see")


def test_an_endpoint_in_the_environment_of_a_step_comes_before_the_profiles(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://10.0.0.1:9000")
    own = {"infer": {"environment": {"AWS_ENDPOINT_URL": "http://localhost:9000"}}}
    profile = ClusterProfile.model_validate({"s3_endpoint": "http://s3.team:9000", "steps": own})

    others, infer = pods_storage(
        Subject(cluster, Placement(cluster=profile), runs="s3://bucket/runs")
    )

    assert others.status == Status.OK
    assert (infer.status, "of infer is http://localhost" in infer.message) == (Status.FAILED, True)


@pytest.mark.parametrize(
    ("here", "there", "status"),
    [
        ("http://10.0.0.1:9000", None, Status.FAILED),
        ("http://10.0.0.1:9000", "http://localhost:9000", Status.FAILED),
        ("http://10.0.0.1:9000", "http://127.0.0.1:9000", Status.FAILED),
        ("http://127.0.0.1:9000", "http://s3.team:9000", Status.OK),
        ("https://s3.eu-central-1.amazonaws.com", None, Status.OK),
    ],
)
def test_the_endpoint_must_mean_the_same_in_a_pod(
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    here: str,
    there: str | None,
    status: Status,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", here)
    placement = Placement(cluster=ClusterProfile(s3_endpoint=there))

    (check,) = pods_storage(Subject(cluster, placement, runs="s3://bucket/runs"))

    assert check.status == status


def test_a_folder_is_read_written_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "runs" / "first").mkdir(parents=True)

    checks = list(storage({"runs": str(tmp_path / "runs")}))

    assert [(check.name, check.status.value) for check in checks] == [
        ("runs: read", "ok"),
        ("runs: write", "ok"),
        ("runs: conditional write", "ok"),
    ]
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()] == ["first"]
    assert list(FolderStore(tmp_path / "runs").list()) == []


def test_storage_without_a_setting_is_unknown_and_a_wrong_one_failed(tmp_path: Path) -> None:
    (none,) = storage({})
    (wrong,) = storage({"data": "gs://bucket"})
    (tmp_path / "file").write_text("")
    readable, unwritable, _ = storage({"runs": str(tmp_path / "file")})

    assert none.status == Status.UNKNOWN
    assert wrong.status == Status.FAILED
    assert (readable.status, unwritable.status) == (Status.OK, Status.FAILED)


@pytest.mark.parametrize("method", ["put_if_absent", "put_if_match"])
def test_a_server_that_ignores_conditions_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def always(self: FolderStore, key: str, data: bytes, *tag: str) -> bool:
        self.put(key, data)
        return True

    monkeypatch.setattr(FolderStore, method, always)

    check = list(storage({"runs": str(tmp_path)}))[-1]

    assert check.status == Status.FAILED
    assert "does not keep If-" in check.message


def test_the_time_of_s3_is_read_from_an_answer_or_a_refusal() -> None:
    from botocore.exceptions import ClientError

    headers = {"date": "Mon, 01 Jan 2024 00:00:00 GMT"}
    answer = {"Error": {"Code": "403"}, "ResponseMetadata": {"HTTPHeaders": headers}}

    def refuse(**_: str) -> None:
        raise ClientError(answer, "HeadBucket")  # type: ignore[arg-type]

    expected = datetime(2024, 1, 1, tzinfo=UTC)
    assert s3_date("b", lambda **_: answer) == expected
    assert s3_date("b", refuse) == expected
    assert s3_date("b", lambda **_: {}) is None
