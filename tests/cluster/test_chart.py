"""The chart on a real cluster: installed, tested, upgraded, rolled back, uninstalled."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.ground import S3_SECRET
from tests.cluster.namespace import TestNamespace, fresh_namespace
from tests.cluster.team import Team
from tests.helm import CHART, RELEASE, Helm, HelmFailed, golden_values, objects_of

ANY = "0.0.0.0/0"
KINDS = (
    "configmap,job,limitrange,networkpolicy,persistentvolumeclaim,pod,resourcequota,role,"
    "rolebinding,secret,serviceaccount"
)
"""Kinds that the chart makes, or helm, or hbseg."""


@dataclass(frozen=True)
class Release:
    """A release of the chart in a namespace."""

    namespace: TestNamespace
    helm: Helm

    def run(self, verb: str, *words: str, **values: Any) -> str:
        """Run `helm VERB hbseg ...` and return what it prints; its seconds go to the test's log."""
        started = time.monotonic()
        try:
            return self.helm.run(verb, RELEASE, *words, values=values or None)
        finally:
            print(f"helm {verb}: {time.monotonic() - started:.1f} s")

    def install(self, **values: Any) -> str:
        """Install the chart."""
        return self.run("install", str(CHART), **values)

    def objects(self) -> dict[str, str]:
        """Return the content of all objects in the namespace, by kind and name."""
        found = json.loads(self.namespace.kubectl("get", KINDS, "-o", "json"))["items"]
        return {
            f"{item['kind']}/{item['metadata']['name']}": json.dumps(item, sort_keys=True)
            for item in found
        }

    def settings(self) -> dict[str, Any]:
        """Return the document in the profile's ConfigMap."""
        path = r"jsonpath={.data.hbseg\.yaml}"
        text = self.namespace.kubectl("get", "configmap", "hbseg-profile", "-o", path)
        settings: dict[str, Any] = yaml.safe_load(text)
        return settings


def release_in(namespace: TestNamespace, helm: Helm) -> Release:
    """Return a release that is not installed yet."""
    flags = ("--kubeconfig", str(namespace.cluster.kubeconfig), "--namespace", namespace.name)
    return Release(namespace, replace(helm, flags=flags))


@pytest.fixture
def release(namespace: TestNamespace, helm: Helm) -> Release:
    return release_in(namespace, helm)


def values_of(team: Team, image: str) -> dict[str, Any]:
    """Return the values of a team whose profile is that of the tests."""
    return {
        "data": f"{team.url}/data",
        "runs": f"{team.url}/runs",
        "credentials": {"existingSecret": S3_SECRET},
        "profile": {**team.profile, "control_image": image},
    }


def test_a_release_is_installed_tested_upgraded_rolled_back_and_uninstalled(
    team: Team, release: Release, control_image: str
) -> None:
    before = release.objects().keys()
    values = values_of(team, control_image) | {"doctor": {"inCluster": True}}

    told = release.install(**values)
    assert "WARNING" not in told
    assert f"helm test {RELEASE} -n {team.namespace.name}" in told
    first = release.settings()
    assert first["cluster"]["runner_service_account"] == "hbseg-runner"

    told = release.run("test", "--logs")
    assert "as the chart" in told
    assert "pod: runs: conditional write" in told
    assert "Pod/hbseg-doctor" not in release.objects()

    laptop = replace(team, folder=team.folder / "empty")
    laptop.folder.mkdir()
    here = {"HBSEG_NAMESPACE": team.namespace.name}
    told = laptop.hbseg("config", "show", environment=here).stdout
    source = f"ConfigMap hbseg-profile of namespace {team.namespace.name}"
    assert {line.split()[0] for line in told.splitlines() if source in line} >= {
        *("data", "runs", "cluster.image", "cluster.credentials_secret")
    }

    changed = {"cache": {"enabled": True}, "runs": f"{team.url}/others"}
    release.run("upgrade", str(CHART), **values | changed)
    assert release.settings()["runs"] == f"{team.url}/others"
    release.run("rollback", "1")
    assert release.settings() == first

    release.run("uninstall", "--wait")
    assert release.objects().keys() - before == {"PersistentVolumeClaim/hbseg-cache"}
    assert before - release.objects().keys() == set()


def test_a_missing_secret_is_told_by_the_test_in_the_doctors_words(
    team: Team, release: Release, control_image: str
) -> None:
    values = values_of(team, control_image)
    values["profile"] |= {"credentials_secret": None}
    release.install(**values | {"credentials": {"existingSecret": "keys"}})

    with pytest.raises(HelmFailed, match="no Secret keys") as caught:
        release.run("test")
    assert f"kubectl -n {team.namespace.name} create secret generic keys" in str(caught.value)


def test_without_values_a_release_says_what_is_missing_and_its_test_fails(
    release: Release,
) -> None:
    told = release.install()

    assert "no image for the pods of steps: set profile.image" in told
    assert "no runs and no data given" in told
    assert "not installed" not in told
    with pytest.raises(HelmFailed, match="no-image-set-profile-control-image"):
        release.run("test")
    assert "Pod/" not in "".join(release.objects())


def test_two_releases_in_two_namespaces_do_not_disturb_each_other(
    team: Team, release: Release, helm: Helm
) -> None:
    with fresh_namespace(team.namespace.ground) as other_namespace:
        other = release_in(other_namespace, helm)
        other.install(runs="s3://other/runs")
        before = other.objects()

        release.install(
            runs="s3://own/runs", networkPolicy={"enabled": True, "s3": [{"cidr": ANY}]}
        )
        release.run("uninstall", "--wait")

        assert other.objects() == before
        assert other.settings()["runs"] == "s3://other/runs"


def test_a_second_release_in_a_namespace_is_refused(release: Release) -> None:
    release.install()

    with pytest.raises(HelmFailed, match=r'"hbseg-profile".*annotation validation error'):
        release.helm.run("install", "second", str(CHART), values={"nameOverride": "second"})


@pytest.mark.parametrize("version", ["0.0.1", "9.0.0"])
def test_a_chart_of_another_version_is_told(
    team: Team, release: Release, tmp_path: Path, version: str
) -> None:
    words = ("--version", version, "--app-version", version, "--destination", str(tmp_path))
    release.helm.run("package", str(CHART), *words)
    release.helm.run("install", RELEASE, str(tmp_path / f"hbseg-{version}.tgz"))

    done = team.hbseg("doctor", "-o", "json")

    (check,) = (c for c in json.loads(done.stdout)["checks"] if c["name"] == "version")
    assert check["status"] == "warning"
    assert check["message"].startswith(f"the chart is of hbseg {version}, here is ")
    assert f"warning: {check['message']}" in done.stderr


def test_a_restricted_namespace_takes_every_object_that_the_chart_can_make(
    release: Release,
) -> None:
    """Kueue is not there, so the queue is left out."""
    values = golden_values("everything") | {"localQueue": {}}
    values["extraObjects"] = []

    release.install(**values)

    text = release.helm.run("template", RELEASE, str(CHART), values=values)
    words = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
    told = release.namespace.kubectl(
        *words, input=json.dumps(objects_of(text)["Pod", "bones-doctor"])
    )
    assert told == "pod/bones-doctor created (server dry run)\n"
    policies = release.namespace.kubectl("get", "networkpolicies", "-o", "name").splitlines()
    assert len(policies) == 4
