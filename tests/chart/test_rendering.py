"""What the chart renders as a whole: golden files, equal bytes, what a tenant may install."""

from __future__ import annotations

import os

import pytest
import yaml

from hbseg import __version__
from hbseg.config.settings import SettingsFile
from tests.helm import CHART, GOLDEN, RELEASE, Helm, golden_values, objects_of, settings_of

CASES = ("defaults", "everything")
TENANTS = {
    *("ConfigMap", "LimitRange", "LocalQueue", "NetworkPolicy", "PersistentVolumeClaim", "Pod"),
    *("ResourceQuota", "Role", "RoleBinding", "ServiceAccount"),
}
"""Kinds that an administrator of a namespace may make."""


@pytest.mark.parametrize("case", CASES)
def test_the_chart_renders_its_golden_file(helm: Helm, case: str) -> None:
    """`HBSEG_GOLDEN=write` writes the files."""
    path = GOLDEN / f"{case}.yaml"
    text = helm.template(**golden_values(case))
    if os.environ.get("HBSEG_GOLDEN") == "write":
        assert not os.environ.get("CI"), "golden files are never written in CI"
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("case", CASES)
def test_the_chart_passes_strict_lint(helm: Helm, case: str) -> None:
    told = helm.run("lint", "--strict", str(CHART), values=golden_values(case))

    assert "0 chart(s) failed" in told


def test_two_renderings_have_the_same_bytes(helm: Helm) -> None:
    values = golden_values("everything")

    assert helm.template(**values) == helm.template(**values)


def test_an_upgrade_renders_what_an_installation_does(helm: Helm) -> None:
    values = golden_values("everything")

    assert helm.template("--is-upgrade", **values) == helm.template(**values)


def test_every_kind_is_one_that_a_tenant_may_make(helm: Helm) -> None:
    kinds = {kind for kind, _ in helm.rendered(**golden_values("everything"))}

    assert kinds == TENANTS


def test_every_object_names_namespace_release_and_version(helm: Helm) -> None:
    for item in helm.rendered(**golden_values("everything")).values():
        metadata = item["metadata"]
        assert metadata["namespace"] == "hands"
        if metadata["name"] == "of-a-person":
            continue
        labels = metadata["labels"]
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/part-of"] == "hbseg"
        assert labels["app.kubernetes.io/version"] == __version__
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_no_selector_names_a_version_or_a_release(helm: Helm) -> None:
    text = helm.template(**golden_values("everything"))
    policies = [i for (kind, _), i in objects_of(text).items() if kind == "NetworkPolicy"]

    assert len(policies) == 4
    for policy in policies:
        selector = policy["spec"]["podSelector"]["matchLabels"]
        assert selector["app.kubernetes.io/part-of"] == "hbseg"
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & selector.keys()
        assert "app.kubernetes.io/instance" not in selector


@pytest.mark.parametrize("case", CASES)
def test_hbseg_reads_the_profile_that_the_chart_writes(helm: Helm, case: str) -> None:
    settings = SettingsFile.from_mapping(
        settings_of(helm.rendered(**golden_values(case))), source="x"
    )

    assert settings.cluster.runner_service_account.endswith("-runner")
    assert settings.cluster.service_account == settings.cluster.runner_service_account.replace(
        "-runner", "-steps"
    )


def test_the_chart_belongs_to_this_version_of_hbseg() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == __version__
