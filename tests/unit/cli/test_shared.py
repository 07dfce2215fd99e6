"""Commands with the settings that a cluster's namespace shares, and no file on this machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hbseg import __version__
from hbseg.cluster.shared_settings import parsed_settings
from hbseg.errors import UnreachableError
from tests.unit.cli.conftest import Cli

Share = Callable[..., None]


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Share:
    """Let the namespace share settings, and this machine have none but keys."""
    monkeypatch.setenv("HBSEG_BACKEND", "kubernetes")
    for name in ("HBSEG_RUNS", "HBSEG_DATA", "HBSEG_IMAGE"):
        monkeypatch.delenv(name, raising=False)

    def share(text: str | None, version: str = __version__) -> None:
        labels = {"app.kubernetes.io/version": version}
        item = {"metadata": {"labels": labels}, "data": {"hbseg.yaml": text}}
        shared = None if text is None else parsed_settings(item, "hands")
        monkeypatch.setattr("hbseg.control.shared_settings.Cluster.connect", lambda **_: None)
        monkeypatch.setattr("hbseg.control.shared_settings.find_settings", lambda _: shared)

    return share


def test_a_listing_finds_the_runs_of_the_namespace(
    cli: Cli, share: Share, tmp_path: object
) -> None:
    share(f"runs: {tmp_path}/team-runs")

    outcome = cli("list")

    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("config", "show"),
        ("fetch-submission", "first"),
        ("fetch-report", "first"),
        ("fetch-checkpoint", "first", "--stage", "1"),
    ],
)
def test_a_command_without_a_backend_takes_a_namespace_and_a_context(
    cli: Cli,
    share: Share,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    share("runs: s3://team/runs")
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(
        "hbseg.control.shared_settings.Cluster.connect", lambda **place: asked.append(place)
    )
    monkeypatch.setattr("hbseg.control.shared_settings.find_settings", lambda _: None)

    cli(*words, "-n", "hands", "--context", "lab")

    assert asked == [{"namespace": "hands", "context": "lab"}]


def test_config_show_names_the_namespace_as_the_source(cli: Cli, share: Share) -> None:
    share("{runs: s3://team/runs, cluster: {image: 'team:1'}}")

    rows = {r["name"]: r for r in cli("config", "show", "-o", "json").json()["items"]}

    source = "ConfigMap hbseg-profile of namespace hands"
    assert (rows["runs"]["value"], rows["runs"]["source"]) == ("s3://team/runs", source)
    assert rows["cluster.image"]["source"] == source


def test_another_version_of_the_chart_is_a_warning(cli: Cli, share: Share) -> None:
    share("runs: s3://team/runs", version="9.9.9")

    outcome = cli("config", "show")

    assert outcome.code == 0
    assert f"warning: the chart is of hbseg 9.9.9, here is {__version__}; install" in outcome.err


def test_without_a_chart_the_next_step_is_named(cli: Cli, share: Share) -> None:
    share(None)

    outcome = cli("list")

    assert outcome.code == 2
    assert "no runs given; give --runs, or set HBSEG_RUNS" in outcome.err


def test_a_cluster_that_does_not_answer_is_a_warning_where_it_is_not_needed(
    cli: Cli, share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(None)

    def down(cluster: object) -> None:
        raise UnreachableError("no answer from the cluster")

    monkeypatch.setattr("hbseg.control.shared_settings.find_settings", down)

    shown, listed = cli("config", "show"), cli("list")

    assert shown.code == 0
    assert "warning: the cluster's settings are not known: no answer" in shown.err
    assert listed.code == 2
    assert "the cluster's settings are not known: no answer" in listed.err


def test_a_clients_dry_run_asks_no_cluster(cli: Cli, share: Share) -> None:
    share("{runs: s3://team/runs, data: s3://team/data}")

    assert cli("submit-report", "first", "--dry-run").code == 2
    assert cli("render", "report").code == 2
