"""Every manifest, plain and completed, passes the server: schema, webhook, Pod Security."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.cluster import KubectlFailed
from tests.cluster.namespace import TestNamespace

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("manifests/*.yaml"), *ROOT.glob("tests/golden/*.yaml")])


def checked(namespace: TestNamespace, text: str) -> str:
    """Return what the server says of manifests that it does not keep."""
    words = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
    return namespace.kubectl(*words, input=text)


def test_the_server_takes_every_manifest(namespace: TestNamespace) -> None:
    assert len(FILES) > 10
    for path in FILES:
        told = checked(namespace, path.read_text())
        assert "(server dry run)" in told, path.name
        assert "Warning" not in told, path.name


def test_the_webhook_and_the_schema_are_asked(namespace: TestNamespace) -> None:
    train = (ROOT / "manifests" / "train.yaml").read_text()
    with pytest.raises(KubectlFailed, match=r"(?s)webhook.*pytorch"):
        checked(namespace, train.replace("name: pytorch", "name: torch"))
    with pytest.raises(KubectlFailed, match="unknown field"):
        checked(namespace, train.replace("nprocPerNode", "processes"))
