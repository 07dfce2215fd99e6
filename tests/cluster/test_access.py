"""Credentials, rights and dry runs: who may what, and what the server says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hbseg.storage.opening import open_store
from tests.cluster.cluster import OwnCluster
from tests.cluster.crew import TRAIN, is_gone
from tests.cluster.team import Team
from tests.cluster.tokens import with_life


def test_a_token_that_is_not_accepted_is_told(crew: Team, tmp_path: Path) -> None:
    path = crew.namespace.cluster.write_kubeconfig(tmp_path / "kubeconfig", token="expired")

    line = crew.api_error(4, *TRAIN, KUBECONFIG=path)

    assert "token" in line
    assert "expired" in line


@pytest.mark.own_node  # its key signs the tokens
def test_a_token_that_ran_out_is_told_and_not_taken_for_missing_rights(
    crew: Team, own_cluster: OwnCluster, tmp_path: Path
) -> None:
    key = own_cluster.node.state.keys / "service-account.key"
    token = crew.namespace.kubectl("create", "token", "default").strip()
    lines = []
    for seconds in (600, -600):
        other = with_life(token, key, seconds)
        path = own_cluster.write_kubeconfig(tmp_path / f"kubeconfig{seconds}", token=other)
        lines.append(crew.api_error(4, *TRAIN, KUBECONFIG=path))

    good, ran_out = lines
    assert "not allowed" in good
    assert "token expired" in ran_out
    assert "log in again" in ran_out


def test_missing_rights_name_the_verb_and_the_resource(crew: Team, tmp_path: Path) -> None:
    token = crew.namespace.kubectl("create", "token", "default").strip()
    path = crew.namespace.cluster.write_kubeconfig(tmp_path / "kubeconfig", token=token)

    line = crew.api_error(4, *TRAIN, KUBECONFIG=path)

    assert "may not" in line or "not allowed" in line
    assert crew.namespace.name in line
    assert "hbseg doctor" in line


def test_a_namespace_that_is_not_there_is_named(crew: Team) -> None:
    assert "no-such-place" in crew.api_error(3, *TRAIN, "-n", "no-such-place")


def test_a_server_that_is_not_there_is_told(crew: Team, tmp_path: Path) -> None:
    gone = "https://127.0.0.1:1"
    path = crew.namespace.cluster.write_kubeconfig(tmp_path / "kubeconfig", server=gone)

    line = crew.api_error(4, *TRAIN, KUBECONFIG=path)

    assert "127.0.0.1:1" in line


def test_an_event_of_the_cluster_is_shown(crew: Team) -> None:
    crew.hbseg(*TRAIN, "--wait")

    told = crew.hbseg("events", "drill").stdout

    assert "Scheduled" in told or "Created" in told
    assert "drill-stage1" in told


def applied(crew: Team, manifests: str) -> str:
    return crew.namespace.kubectl("apply", "-f", "-", input=manifests)


def test_what_a_dry_run_prints_is_taken_by_kubectl_and_runs(crew: Team) -> None:
    done = crew.hbseg(*TRAIN, "--dry-run")

    assert "created" in applied(crew, done.stdout)

    crew.namespace.wait("pytorchjob/drill-stage1", "condition=Succeeded")
    assert open_store(f"{crew.url}/runs/drill/stage1").exists("_SUCCESS")


def test_a_dry_run_on_the_server_asks_webhook_and_standard_and_makes_nothing(crew: Team) -> None:
    done = crew.hbseg(*TRAIN, "-j", "2x2", "--dry-run=server")

    assert "pytorchjob.kubeflow.org/drill-stage1 accepted" in done.stderr
    assert is_gone(crew, "pytorchjobs,configmaps")
