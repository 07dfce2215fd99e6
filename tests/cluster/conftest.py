"""Fixtures of tests against a real cluster: the machine's one node, and a namespace per test.

The cluster is a node of our own, shared by all test processes of the machine, or the one that
HBSEG_TEST_KUBECONFIG names.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hbseg.config.specs import PrepareSpec
from hbseg.data.prepare import prepare
from hbseg.local.s3server import EmbeddedS3
from hbseg.storage.opening import open_store
from tests.cluster.cluster import OwnCluster
from tests.cluster.control_image import loaded
from tests.cluster.crew import crew_of
from tests.cluster.foreign import KUBECONFIG, UnusableError, foreign_ground
from tests.cluster.ground import Ground
from tests.cluster.namespace import TestNamespace, fresh_namespace
from tests.cluster.node.build import ensured
from tests.cluster.node.lease import lease
from tests.cluster.node.paths import NodeError
from tests.cluster.node.requirements import check_programs, obstacle
from tests.cluster.own import own_ground
from tests.cluster.team import Team, team_of

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
    config.addinivalue_line("markers", "own_node: stops, patches or looks into our own node")
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
    if not mine or config.option.collectonly:
        return
    try:
        if foreign_ground(os.environ):
            _leave_out_own_node(session, items, mine)
            return
        if reason := obstacle():
            reason = f"{len(mine)} tests not run: {reason}; or name a cluster by {KUBECONFIG}"
            _replace(session, items, mine, reason, is_failure=os.environ.get("CI") == "true")
            return
        _build(config)
    except (NodeError, UnusableError) as error:
        _replace(session, items, mine, str(error), is_failure=True)


def _leave_out_own_node(
    session: pytest.Session, items: list[pytest.Item], mine: list[pytest.Item]
) -> None:
    own = [item for item in mine if item.get_closest_marker("own_node")]
    if own:
        reason = f"{len(own)} tests not run: they stop, patch or look into a node of our own"
        _replace(session, items, own, reason, is_failure=False)


def _needs_cluster(item: pytest.Item) -> bool:
    fixtures: list[str] = getattr(item, "fixturenames", [])
    ours = Path(__file__).parent in item.path.parents
    return ours and ("ground" in fixtures or item.get_closest_marker("own_node") is not None)


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
    items[:] = [absent, *(item for item in items if item not in away)]


def _build(config: pytest.Config) -> None:
    """Build what the node runs, and let people see that it takes its time."""
    check_programs()
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        ensured()


@pytest.fixture(scope="session")
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """What the tests stand on; all test processes of this machine share our own node."""
    foreign = foreign_ground(os.environ)
    if foreign:
        yield foreign
        return
    server: EmbeddedS3 = request.getfixturevalue("s3_server")
    try:
        with lease() as node, own_ground(node, server) as own:
            yield own
    except NodeError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def own_cluster(ground: Ground) -> OwnCluster:
    """Our own node, for tests that are marked `own_node`."""
    assert isinstance(ground.cluster, OwnCluster)
    return ground.cluster


@pytest.fixture(scope="session")
def control_image(ground: Ground) -> str:
    """Reference of the control image, which the cluster's nodes have or can pull.

    On our own node it is the image of `images/control.Dockerfile` as the checkout is now.
    """
    if isinstance(ground.cluster, OwnCluster):
        return loaded(ground.cluster.node)
    return str(ground.profile["control_image"])


@pytest.fixture
def turn(request: pytest.FixtureRequest, ground: Ground) -> Iterator[None]:
    """A test's time on the cluster: drills have it alone, all others share it."""
    with ground.turn(alone=request.node.get_closest_marker("drill") is not None):
        yield


@pytest.fixture
def namespace(ground: Ground, turn: None) -> Iterator[TestNamespace]:
    """A fresh namespace; its Secret has the keys of the tests' S3 server."""
    with fresh_namespace(ground) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def bucket(ground: Ground) -> Iterator[str]:
    """A bucket of the session, where every team has its folder; this process has its keys, too."""
    name = f"cluster-{uuid.uuid4().hex[:12]}"
    ground.s3.create_bucket(name)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in ground.s3.environment.items():
            patch.setenv(variable, value)
        yield name
    ground.s3.delete_bucket(name)


@pytest.fixture
def team(namespace: TestNamespace, bucket: str, tmp_path: Path) -> Iterator[Team]:
    """A team in a namespace of its own."""
    with team_of(namespace, bucket, tmp_path) as people:
        yield people


@pytest.fixture
def crew(team: Team) -> Team:
    """A team whose steps are fakes."""
    return crew_of(team)


@pytest.fixture(scope="session")
def data(bucket: str, raw_set: Path) -> str:
    """A dataset that all teams may read."""
    url = f"s3://{bucket}/data"
    prepare(raw_set, open_store(url), PrepareSpec(), workers=2)
    return url
