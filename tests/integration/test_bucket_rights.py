"""The rights in a bucket that docs/admin.md asks for are enough, and none is too many."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hbseg.errors import DeniedError
from hbseg.local.s3server import EmbeddedS3
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store

DOCS = Path(__file__).parents[2] / "docs" / "admin.md"
BUCKET = "team"
LARGE = 9 * 2**20
"""Bytes of a file that is uploaded in parts."""


def policy() -> dict[str, Any]:
    """Return the policy of docs/admin.md."""
    found = re.search(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def actions(of: dict[str, Any]) -> list[str]:
    return sorted({action for statement in of["Statement"] for action in statement["Action"]})


def without(action: str) -> dict[str, Any]:
    """Return the policy without one of its actions."""
    kept = policy()
    for statement in kept["Statement"]:
        statement["Action"] = [one for one in statement["Action"] if one != action]
    kept["Statement"] = [statement for statement in kept["Statement"] if statement["Action"]]
    return kept


NEEDED = [action for action in actions(policy()) if action != "s3:AbortMultipartUpload"]
"""What a request without trouble needs; parts are thrown away after a failure only."""


def _identity(number: int) -> dict[str, Any]:
    keys = {"accessKey": f"{number:020d}", "secretKey": f"{number:040d}"}
    return {"name": f"user-{number}", "credentials": [keys]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    """A server with an admin, a user with the whole policy, and one for each missing action."""
    folder = tmp_path_factory.mktemp("rights")
    policies = [policy(), *(without(action) for action in NEEDED)]
    named = [{"name": str(n), "content": json.dumps(one)} for n, one in enumerate(policies)]
    admin = _identity(99) | {"actions": ["Admin", "Read", "Write", "List"]}
    users = [_identity(n) | {"policyNames": [str(n)]} for n in range(len(policies))]
    settings = {"identities": [admin, *users], "policies": named}
    (folder / "s3.json").write_text(json.dumps(settings))
    with EmbeddedS3(folder) as server:
        server.create_bucket(BUCKET)
        yield server


class User:
    """A user of the server, by number."""

    def __init__(self, server: EmbeddedS3, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        keys = _identity(number)["credentials"][0]
        own = {"AWS_ACCESS_KEY_ID": keys["accessKey"], "AWS_SECRET_ACCESS_KEY": keys["secretKey"]}
        for name, value in (server.environment | own).items():
            monkeypatch.setenv(name, value)

    def work(self, url: str, folder: Path) -> None:
        """Do all that hbseg does with storage: nothing of it reaches S3 by another way."""
        store = open_store(url)
        file = folder / "weights"
        file.write_bytes(bytes(LARGE))
        store.put("a/b", b"1")
        assert store.put_if_absent("a/c", b"1")
        assert store.put_if_match("a/c", b"2", store.get_tagged("a/c")[1])
        assert store.get_range("a/c", 0, 1) == b"2"
        store.upload("a/weights", file)
        store.download("a/weights", folder / "again")
        assert not store.exists("a/d")
        assert list(store.get_many(["a/b", "a/d"])) == [b"1", None]
        assert list(store.list_folders()) == ["a"]
        for entry in list(store.list()):
            store.delete(entry.key)
        assert not list(store.list())


def prefixes() -> list[str]:
    """Return the folders of the bucket in which the policy lets objects be written."""
    resources = [
        resource
        for statement in policy()["Statement"]
        for resource in statement["Resource"]
        if "s3:PutObject" in statement["Action"]
    ]
    found = [re.fullmatch(rf"arn:aws:s3:::{BUCKET}/(.+)/\*", resource) for resource in resources]
    return [match[1] for match in found if match]


def test_the_policy_is_for_the_folders_of_runs_and_data() -> None:
    assert prefixes() == ["hbseg/runs", "hbseg/data"]


@pytest.mark.parametrize("prefix", prefixes())
def test_the_policy_is_enough_for_all_that_hbseg_does_with_storage(
    server: EmbeddedS3, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    User(server, 0, monkeypatch).work(f"s3://{BUCKET}/{prefix}", tmp_path)


@pytest.mark.parametrize("action", NEEDED)
def test_no_action_of_the_policy_can_be_left_out(
    server: EmbeddedS3, action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = User(server, 1 + NEEDED.index(action), monkeypatch)

    with pytest.raises(DeniedError):
        user.work(f"s3://{BUCKET}/hbseg/runs/{action[3:]}", tmp_path)


def test_the_policy_opens_nothing_else_of_the_bucket(
    server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    User(server, 0, monkeypatch)
    elsewhere: Store = open_store(f"s3://{BUCKET}/payroll")

    with pytest.raises(DeniedError):
        elsewhere.put("a", b"1")
    with pytest.raises(DeniedError):
        list(elsewhere.list())
