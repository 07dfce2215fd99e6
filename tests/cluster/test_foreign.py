"""A cluster that a person names: what it needs is asked for in one line, and then all tests run.

Our own node plays that cluster: reached with a token whose rights are those of `rights.yaml`, with
the image and the S3 server that the variables name, and with nothing else of the node.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import OwnCluster
from tests.cluster.foreign import (
    CONTROL_IMAGE,
    IMAGE,
    KUBECONFIG,
    NEEDED,
    PROFILE,
    S3_ENDPOINT,
    UnusableError,
    foreign_ground,
)
from tests.cluster.ground import Ground
from tests.cluster.namespace import TestNamespace
from tests.cluster.node.paths import ROOT
from tests.cluster.packed import packed_image

RIGHTS = Path(__file__).with_name("rights.yaml")
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
ALL_SECONDS = 2700.0


@pytest.fixture
def named(tmp_path: Path) -> dict[str, str]:
    """An environment that names a cluster with all that it needs."""
    for name in ("kubeconfig", "kubectl"):
        (tmp_path / name).touch(mode=0o755)
    values = dict.fromkeys(NEEDED, "x") | {S3_ENDPOINT: "http://s3.example"}
    return {KUBECONFIG: str(tmp_path / "kubeconfig"), "PATH": str(tmp_path), **values}


def api_error(environment: Mapping[str, str]) -> str:
    with pytest.raises(UnusableError) as caught:
        foreign_ground(environment)
    return str(caught.value)


def test_no_cluster_is_named() -> None:
    assert foreign_ground({IMAGE: "x"}) is None


def test_what_is_named_is_what_pods_and_this_machine_get(named: dict[str, str]) -> None:
    ground = foreign_ground({**named, IMAGE: "here/tests:1", "AWS_SESSION_TOKEN": "short"})

    assert ground
    assert ground.profile["image"] == ground.profile["control_image"] == "here/tests:1"
    assert ground.profile["s3_endpoint"] == ground.s3.environment["AWS_ENDPOINT_URL"]
    assert ground.profile["s3_endpoint"] == "http://s3.example"
    assert ground.keys["AWS_SESSION_TOKEN"] == "short"
    assert not ground.folders


def test_all_variables_that_are_missing_are_told_at_once(named: dict[str, str]) -> None:
    line = api_error({KUBECONFIG: named[KUBECONFIG], "AWS_REGION": "here"})

    assert line == (
        "HBSEG_TEST_KUBECONFIG names a cluster, which needs HBSEG_TEST_IMAGE, "
        "HBSEG_TEST_S3_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY too"
    )


def test_a_kubeconfig_or_a_kubectl_that_is_not_there_is_told(
    named: dict[str, str], tmp_path: Path
) -> None:
    assert f"no file {tmp_path}/absent" in api_error({**named, KUBECONFIG: f"{tmp_path}/absent"})
    assert "kubectl on your PATH" in api_error({**named, "PATH": str(tmp_path / "empty")})


def test_a_further_profile_comes_before_ours(named: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text("{s3_endpoint: 'http://inside', node_selector: {pool: cpu}}")

    ground = foreign_ground({**named, PROFILE: str(path)})

    assert ground
    assert ground.profile["s3_endpoint"] == "http://inside"
    assert ground.profile["node_selector"] == {"pool": "cpu"}
    assert ground.profile["gpus_per_process"] == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tolerations: 1", "tolerations"),
        ("imagee: x", "imagee"),
        ("{", "expected"),
        ("- image", "cluster"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_further_profile_that_is_wrong_is_told_in_one_line(
    named: dict[str, str], tmp_path: Path, text: str | None, told: str
) -> None:
    path = tmp_path / "profile.yaml"
    if text is not None:
        path.write_text(text)

    line = api_error({**named, PROFILE: str(path)})

    assert line.startswith(f"HBSEG_TEST_PROFILE: {path}")
    assert told in line
    assert "\n" not in line


def run_tests(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run tests of this folder, with no other variables of ours than `environment`."""
    ours = ("AWS_", "HBSEG_", "KUBE", "PYTEST_")
    others = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=ROOT,
        env={**others, **environment},
        capture_output=True,
        text=True,
        timeout=ALL_SECONDS,
        check=False,
    )


def test_missing_variables_fail_before_any_test_and_without_a_traceback(
    named: dict[str, str],
) -> None:
    done = run_tests({KUBECONFIG: named[KUBECONFIG]}, "tests/cluster/test_manifests.py")

    assert done.returncode == 1
    assert "names a cluster, which needs HBSEG_TEST_IMAGE, " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert re.search(r"\b1 failed, \d+ deselected", done.stdout)
    assert "passed" not in done.stdout


@contextmanager
def user_of_rights(namespace: TestNamespace, kubeconfig: Path) -> Iterator[str]:
    """Write the kubeconfig of a user with the rights of `rights.yaml`; yield its path."""
    cluster, name = namespace.cluster, namespace.name
    user = f"--serviceaccount={name}:default"
    cluster.kubectl("create", "-f", str(RIGHTS))
    role = yaml.safe_load(RIGHTS.read_text())["metadata"]["name"]
    try:
        cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={role}", user)
        token = namespace.kubectl("create", "token", "default", "--duration=2h").strip()
        yield cluster.write_kubeconfig(kubeconfig, token=token)
    finally:
        cluster.kubectl("delete", "clusterrolebinding", name, "--ignore-not-found")
        cluster.kubectl("delete", "clusterrole", role)


@pytest.mark.own_node
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_tests_but_those_of_our_node_run_on_a_foreign_cluster(
    ground: Ground,
    own_cluster: OwnCluster,
    namespace: TestNamespace,
    control_image: str,
    tmp_path: Path,
) -> None:
    further = tmp_path / "profile.yaml"
    inside = {"s3_endpoint": ground.profile["s3_endpoint"], "image_pull_policy": "Never"}
    further.write_text(yaml.safe_dump(inside))
    s3 = dict(ground.s3.environment)
    with (
        user_of_rights(namespace, tmp_path / "kubeconfig") as kubeconfig,
        packed_image(own_cluster.node, tmp_path) as image,
    ):
        environment = {
            KUBECONFIG: kubeconfig,
            IMAGE: image,
            CONTROL_IMAGE: control_image,
            PROFILE: str(further),
            S3_ENDPOINT: s3.pop("AWS_ENDPOINT_URL"),
            "PATH": f"{own_cluster.node.build.programs}:{os.environ['PATH']}",
            **s3,
        }
        done = run_tests(environment, "tests/cluster", "-m", "not slow", *SIDE_BY_SIDE)

    assert done.returncode == 0, done.stdout
    assert "tests not run: they stop, patch or look into a node of our own" in done.stdout
    numbers = re.search(r"(\d+) passed, 1 skipped", done.stdout)
    assert numbers, done.stdout
    assert int(numbers[1]) > 40
