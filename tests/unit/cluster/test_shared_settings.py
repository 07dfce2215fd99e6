"""The chart's ConfigMap as settings."""

from __future__ import annotations

import pytest

from hbseg import __version__
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.shared_settings import NAME, VERSION_LABEL, find_settings
from hbseg.errors import SpecError
from tests.unit.cluster.fake_api import FakeApi


def put(api: FakeApi, text: str, version: str = __version__) -> None:
    metadata = {"name": NAME, "labels": {VERSION_LABEL: version}}
    api.put("configmaps", {"metadata": metadata, "data": {"hbseg.yaml": text}})


def test_a_namespace_without_a_chart_shares_nothing(cluster: Cluster) -> None:
    assert find_settings(cluster) is None


def test_what_the_namespace_shares_is_told_with_its_source_and_version(
    api: FakeApi, cluster: Cluster
) -> None:
    put(api, "{runs: s3://team/runs, cluster: {queue: team-a}}", version="9.9.9")

    found = find_settings(cluster)

    assert found is not None
    assert (found.block.runs, found.block.cluster.queue) == ("s3://team/runs", "team-a")
    assert found.source == "ConfigMap hbseg-profile of namespace team"
    assert found.version == "9.9.9"


def test_a_newer_charts_key_names_both_versions(api: FakeApi, cluster: Cluster) -> None:
    put(api, "cluster: {newer: 1}", version="9.9.9")

    with pytest.raises(SpecError, match=f"the chart is of hbseg 9.9.9, here is {__version__}: "):
        find_settings(cluster)


def test_a_wrong_key_of_our_own_version_names_the_nearest(api: FakeApi, cluster: Cluster) -> None:
    put(api, "cluster: {que: a}")

    with pytest.raises(SpecError, match=r"unknown key cluster\.que; did you mean queue\?"):
        find_settings(cluster)
