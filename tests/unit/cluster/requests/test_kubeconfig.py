"""Kubeconfigs without a current context, and without the package that reads them."""

import json
import sys
from pathlib import Path

import pytest

from hbseg.cluster.requests.client import Cluster
from hbseg.errors import UsageError

CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "hands"}}],
}


@pytest.mark.parametrize("current", [None, "", "gone"])
def test_a_context_that_is_named_needs_no_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, current: str | None
) -> None:
    path = tmp_path / "config"
    path.write_text(json.dumps(CONFIG | ({} if current is None else {"current-context": current})))
    monkeypatch.setenv("KUBECONFIG", str(path))

    assert Cluster.connect(context="x").namespace == "hands"
    named = "no context gone" if current else "no current context; contexts there: x"
    with pytest.raises(UsageError, match=named):
        Cluster.connect()


def test_a_kubeconfig_without_its_package_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config"
    path.write_text(json.dumps(CONFIG))
    monkeypatch.setenv("KUBECONFIG", str(path))
    for module in ("kubernetes", "kubernetes.client"):
        monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(
        UsageError, match=r"config needs the package kubernetes, .*; run: pip install"
    ):
        Cluster.connect(context="x")
