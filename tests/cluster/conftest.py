"""Fixtures of tests against a real cluster: the machine's one node, and a namespace per test.

The cluster is a node of our own, shared by all test processes of the machine, or the one that
HBSEG_TEST_KUBECONFIG names.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hbseg.local.s3server import EmbeddedS3
from tests.cluster.cluster import TestCluster
from tests.cluster.namespace import TestNamespace, fresh_namespace
from tests.cluster.node.build import ensured
from tests.cluster.node.lease import lease
from tests.cluster.node.locks import turn_of
from tests.cluster.node.paths import NodeError, cache_folder
from tests.cluster.node.requirements import check_programs, obstacle
from tests.cluster.team import Team, team_of

NAMED = "HBSEG_TEST_KUBECONFIG"
TEST_SECONDS = 1800
"""Time limit of a test, its wait for the node or for its turn there included."""


class Absent(pytest.Item):
    """One line in the place of tests that are not run."""

    reason = ""
    is_failure = False

    def runtest(self) -> None:
        if self.is_failure:
            pytest.fail(self.reason, pytrace=False)
        pytest.skip(self.reason)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "own_node: needs a node of ours")
    config.addinivalue_line("markers", "drill: stops a part of the node, so it has it alone")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Take out what cannot run here, in words; build the node before any test's time counts."""
    mine = [item for item in items if _needs_cluster(item)]
    for item in mine:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))
    if os.environ.get(NAMED):
        own = [item for item in mine if item.get_closest_marker("own_node")]
        if own:
            reason = f"{len(own)} tests need a node of our own, not the cluster of {NAMED}"
            _replace(session, items, own, reason, is_failure=False)
        return
    if not mine or config.option.collectonly:
        return
    reason = obstacle() or ""
    if reason:
        reason = f"{len(mine)} tests not run: {reason}; or name a cluster by {NAMED}"
        _replace(session, items, mine, reason, is_failure=os.environ.get("CI") == "true")
        return
    try:
        _build(config)
    except NodeError as error:
        _replace(session, items, mine, str(error), is_failure=True)


def _needs_cluster(item: pytest.Item) -> bool:
    fixtures: list[str] = getattr(item, "fixturenames", [])
    ours = Path(__file__).parent in item.path.parents
    return ours and ("cluster" in fixtures or item.get_closest_marker("own_node") is not None)


def _replace(
    session: pytest.Session,
    items: list[pytest.Item],
    away: list[pytest.Item],
    reason: str,
    *,
    is_failure: bool,
) -> None:
    absent: Absent = Absent.from_parent(away[0].parent or session, name="absent")
    absent.reason, absent.is_failure = reason, is_failure
    session.config.hook.pytest_deselected(items=away)
    items[:] = [item for item in items if item not in away] + [absent]


def _build(config: pytest.Config) -> None:
    """Build what the node runs, and let people see that it takes its time."""
    check_programs()
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        ensured()


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestCluster]:
    """The cluster; all test processes of this machine share it."""
    named = os.environ.get(NAMED)
    if named:
        program = shutil.which("kubectl")
        assert program, f"kubectl is missing, with which tests use the cluster of {NAMED}"
        yield TestCluster(Path(named), program, None)
        return
    try:
        with lease() as node:
            yield TestCluster(node.kubeconfig, node.kubectl, node)
    except NodeError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test's time on the node: drills have it alone, all others share it."""
    alone = request.node.get_closest_marker("drill") is not None
    with turn_of(cache_folder(), alone=alone):
        yield


@pytest.fixture
def namespace(cluster: TestCluster, s3_server: EmbeddedS3, turn: None) -> Iterator[TestNamespace]:
    """A fresh namespace; its Secret has the keys of the session's S3 server."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    with fresh_namespace(cluster, {name: s3_server.environment[name] for name in names}) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def bucket(s3_server: EmbeddedS3) -> Iterator[str]:
    """A bucket of the session, where every team has its folder; this process has its keys, too."""
    name = f"cluster-{uuid.uuid4().hex[:12]}"
    s3_server.create_bucket(name)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in s3_server.environment.items():
            patch.setenv(variable, value)
        yield name
    s3_server.delete_bucket(name)


@pytest.fixture
def team(
    namespace: TestNamespace, s3_server: EmbeddedS3, bucket: str, tmp_path: Path
) -> Iterator[Team]:
    """A team in a namespace of its own."""
    with team_of(namespace, s3_server, bucket, tmp_path) as people:
        yield people
