"""`hbseg doctor`: its table, its documents and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hbseg.doctor import machine
from hbseg.doctor.check import failed, ok
from tests.unit.cli.conftest import Cli


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "torch", lambda: iter([ok("torch", "2.9")]))


def test_a_sound_machine_is_a_table_and_exit_0(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("doctor")

    assert outcome.code == 0
    assert outcome.out.splitlines()[0].split() == ["STATUS", "CHECK", "MESSAGE", "FIX"]
    assert "runs: conditional write" in outcome.out
    assert "ok" in outcome.err


def test_a_failure_is_exit_5_and_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = failed("torch", "cannot be loaded", "pip install")
    monkeypatch.setattr(machine, "torch", lambda: iter([bad]))

    names, document = cli("doctor", "-o", "name"), cli("doctor", "-o", "json")

    assert (names.code, names.out) == (5, "torch\n")
    assert (document.json()["kind"], document.json()["reachable"]) == ("DoctorReport", True)
    assert document.json()["checks"][0] == bad.model_dump(mode="json")


def test_without_a_cluster_it_is_exit_4_with_storage_looked_at(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")

    outcome = cli("doctor", "--backend", "kubernetes", "-o", "json")

    told = {check["name"]: check for check in outcome.json()["checks"]}
    assert outcome.code == 4
    assert "no kubeconfig" in told["api"]["message"]
    assert told["runs: write"]["status"] == "ok"


def test_a_pod_needs_a_cluster(cli: Cli) -> None:
    assert cli("doctor", "--in-cluster").code == 2
    assert cli("doctor", "--backend", "slurm").code == 5
