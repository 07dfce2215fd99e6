"""A node lives as long as somebody holds a lease, and leaves nothing behind.

These tests run a node of their own beside the one that all tests share: its cache is a new folder,
with the build that is there already.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.cluster.cluster import OwnCluster, until
from tests.cluster.node.build import ensured
from tests.cluster.node.control import described
from tests.cluster.node.isolation import CGROUPS
from tests.cluster.node.lease import Node, end, keep, lease
from tests.cluster.node.paths import ROOT, NodeError, State

pytestmark = pytest.mark.own_node

HOLD = """
import sys
from tests.cluster.node.lease import lease
with lease() as node:
    print(node.kubeconfig.read_text().count("current-context"), flush=True)
    sys.stdin.read()
"""
Holder = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """The state of a node that only this test uses; the test fails if any of it is left."""
    build = ensured()
    cache = Path(tempfile.mkdtemp(prefix="hbseg-"))  # a socket's path must be short
    (cache / build.key).symlink_to(build.folder)
    monkeypatch.setenv("HBSEG_TEST_CACHE", str(cache))
    before = of_the_machine()
    state = State(cache)
    yield state
    end()
    until(lambda: not traces(state), "no process and no cgroup is left")
    assert of_the_machine() <= before
    assert not {state.kubeconfig, state.keys, state.source} & set(state.folder.iterdir())
    shutil.rmtree(cache)


@pytest.fixture
def holder(state: State) -> Iterator[Holder]:
    """Starts processes that hold a lease until their standard input is closed."""
    with ExitStack() as started:

        def start() -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", HOLD],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            started.callback(process.__exit__, None, None, None)
            started.callback(process.kill)
            assert process.stdout
            assert process.stdout.readline() == "1\n"
            return process

        yield start


def of_the_machine() -> set[str]:
    """Return the machine's mounts and network interfaces."""
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    return mounts | set(os.listdir("/sys/class/net"))


def traces(state: State) -> list[str]:
    """Return the cgroups of the node, and processes that have its folder on their command line."""
    found = [str(path) for path in CGROUPS.glob(f"*/{state.cgroup}")]
    for _, words in command_lines():
        if any(bytes(state.cache) in word for word in words):
            found.append(b" ".join(words).decode(errors="replace"))
    return found


def command_lines() -> Iterator[tuple[int, list[bytes]]]:
    """Yield id and words of every process; those that end meanwhile are left out."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield int(path.parent.name), path.read_bytes().split(b"\0")


def supervisor_of(state: State) -> int:
    """Return the process id of the node's supervisor."""
    wanted = [b"supervise", bytes(state.cache)]
    [found] = [pid for pid, words in command_lines() if words[3:5] == wanted]
    return found


def is_ready(state: State) -> bool:
    return described(state.control_socket) is not None


def nodes_of(node: Node) -> str:
    return OwnCluster.of(node).kubectl("get", "nodes", "-o", "name")


def test_the_node_outlives_a_killed_starter_and_ends_with_its_last_user(
    state: State, holder: Holder
) -> None:
    starter, other = holder(), holder()
    supervisor = supervisor_of(state)
    starter.kill()
    starter.wait()
    with lease() as node:
        assert nodes_of(node) == "node/node1\n"
    assert supervisor_of(state) == supervisor
    assert len(traces(state)) > 10
    other.kill()
    until(lambda: not is_ready(state), "the node ends")
    until(lambda: not traces(state), "its processes and cgroups are gone")


def test_the_node_ends_with_a_killed_supervisor_and_the_next_one_starts(
    state: State, holder: Holder
) -> None:
    user = holder()
    os.kill(supervisor_of(state), signal.SIGKILL)
    until(lambda: not any(str(state.cache) in t for t in traces(state)), "no process is left")
    with lease() as node:
        assert nodes_of(node) == "node/node1\n"
    assert user.poll() is None


def test_a_kept_node_stays_until_it_is_ended_and_tells_other_versions_so(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = keep()
    supervisor = supervisor_of(state)
    with lease() as again:
        assert again == node
    assert supervisor_of(state) == supervisor
    with monkeypatch.context() as patched:
        other = state.cache / "0123456789abcdef"
        other.mkdir()
        patched.setattr("tests.cluster.node.build._key", lambda: other.name)
        with pytest.raises(NodeError, match="end it: make cluster-down"), lease():
            pytest.fail("took a node that runs other programs")
    assert end()
    assert not traces(state)
    assert not end()


def test_a_component_stays_down_until_it_is_started(state: State) -> None:
    with lease() as node:
        cluster = OwnCluster.of(node)
        everything = node.running_components()
        for name in ("training-operator", "kubelet", "kube-apiserver"):
            cluster.stop_component(name)
            assert node.running_components() == [one for one in everything if one != name]
            assert not cluster.is_ready(name)
            cluster.start_component(name)
            assert node.running_components() == everything
        assert nodes_of(node) == "node/node1\n"


def test_a_component_that_does_not_start_shows_the_end_of_its_log(
    state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "containerd"
    broken.write_text("#!/bin/sh\necho no disk in the drive >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NodeError, match="no disk in the drive"), lease():
        pytest.fail("started without containerd")
