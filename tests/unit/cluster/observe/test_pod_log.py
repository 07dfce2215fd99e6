"""Logs of pods over cut connections: every line once."""

import json
from typing import Any

import pytest

from hbseg.cluster.observe.follow import merged_logs
from hbseg.cluster.observe.pod_log import Line, PodFollower, parsed, whole_log
from hbseg.cluster.requests.client import Cluster
from tests.unit.cluster.fake_api import FakeApi, Reply, status
from tests.unit.cluster.sidecars import RUNS, add_sidecar

STARTING = Reply(400, status(400, 'container "c" in pod "p" is waiting to start'))


def raw(second: int, text: str, nanoseconds: int = 0) -> bytes:
    return f"2026-01-01T00:00:{second:02}.{nanoseconds:09}Z {text}\n".encode()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("2026-01-01T00:00:00.500Z [3] step 1", Line("2026-01-01T00:00:00.500Z", "3", "step 1")),
        (
            "2026-01-01T00:00:00.500Z [torchrun] x",
            Line("2026-01-01T00:00:00.500Z", "torchrun", "x"),
        ),
        ("2026-01-01T00:00:00.500Z [0] ", Line("2026-01-01T00:00:00.500Z", "0", "")),
        ("2026-01-01T00:00:00+00:00 hi", Line("2026-01-01T00:00:07.000Z", "launcher", "hi")),
        ("sh: not found", Line("2026-01-01T00:00:07.000Z", "launcher", "sh: not found")),
    ],
)
def test_a_line_has_the_time_and_name_of_its_rank(text: str, line: Line) -> None:
    assert parsed(raw(7, text).rstrip(b"\n")) == line


def test_times_of_a_node_elsewhere_are_told_in_utc() -> None:
    assert parsed(b"2026-01-01T01:00:07.123456789+01:00 x").time == "2026-01-01T00:00:07.123Z"


def followed(cluster: Cluster, *over: bool) -> list[str]:
    """Return the texts that a follower of the pod `p` passes on; `over` answers its questions."""
    answers = list(over)
    found: list[Line | Exception | None] = []
    follower = PodFollower(
        cluster, "p", "c", put=found.append, is_over=lambda: answers.pop(0) if answers else True
    )
    follower.run()
    assert found.pop() is None
    return [line.text for line in found if isinstance(line, Line)]


def test_a_stream_that_is_cut_goes_on_without_a_line_twice_or_lost(
    api: FakeApi, cluster: Cluster
) -> None:
    a, b, c, d = raw(1, "a"), raw(1, "b", 5), raw(1, "c", 5), raw(2, "d")
    api.plan(
        "GET",
        "/log",
        STARTING,
        Reply(pieces=(a + b, c[:10]), cut=True),
        Reply(cut=True),
        Reply(pieces=(a, b, c)),
        Reply(pieces=(a, b, c, d)),
    )

    assert followed(cluster, False, False, False, False) == ["a", "b", "c", "d"]

    queries = [r.query.get("sinceTime") for r in api.requests]
    assert queries == [None, None, *["2026-01-01T00:00:01Z"] * 3, "2026-01-01T00:00:02Z"]


def test_a_follower_ends_with_the_pod(api: FakeApi, cluster: Cluster) -> None:
    api.plan("GET", "/log", Reply(pieces=(raw(1, "a"),)), Reply(404, status(404, "", name="p")))

    assert followed(cluster, False, False) == ["a"]


def test_a_bug_in_a_follower_ends_it_and_is_told(api: FakeApi, cluster: Cluster) -> None:
    def broken() -> bool:
        raise KeyError("a bug")

    got: list[Any] = []
    PodFollower(cluster, "p", "c", put=got.append, is_over=broken).run()

    assert [type(item) for item in got] == [KeyError]


def test_a_stream_that_ends_well_after_the_container_is_the_last(
    api: FakeApi, cluster: Cluster
) -> None:
    api.plan("GET", "/log", Reply(pieces=(raw(1, "a"),)))

    assert followed(cluster, True) == ["a"]
    assert len(api.requests) == 1


def test_a_pod_without_a_log_has_no_lines(api: FakeApi, cluster: Cluster) -> None:
    api.plan("GET", "/log", STARTING, Reply(404, status(404, "", name="p")))

    assert list(whole_log(cluster, "p", "c")) == []
    assert list(whole_log(cluster, "p", "c")) == []


def test_logs_of_all_pods_are_merged_by_time(api: FakeApi, cluster: Cluster) -> None:
    def pod(name: str) -> dict[str, Any]:
        states = [{"name": "pytorch", "state": {"running": {}}}]
        return {
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "pytorch"}]},
            "status": {"containerStatuses": states},
        }

    def line(second: int, rank: int) -> bytes:
        return raw(9, f"2026-01-01T00:00:0{second}.000Z [{rank}] at {second}")

    job = json.loads('{"kind": "PyTorchJob", "spec": {"nprocPerNode": "1"}}')
    job["spec"]["pytorchReplicaSpecs"] = {"Worker": {"replicas": 2}}
    for wanted in (None, 1):
        api.plan("GET", "pods/a/log", Reply(body=line(1, 0) + line(4, 0)))
        api.plan("GET", "pods/b/log", Reply(body=line(2, 1) + line(3, 1)))
        lines = list(merged_logs(cluster, job, [pod("a"), pod("b")], wanted))
        texts = [text.partition(" ")[2] for text in lines]
        if wanted is None:
            assert texts == ["[0] at 1", "[1] at 2", "[1] at 3", "[0] at 4"]
        else:
            assert texts == ["[1] at 2", "[1] at 3"]


def test_beside_a_sidecar_the_log_of_the_main_container_is_asked_for(
    api: FakeApi, cluster: Cluster
) -> None:
    pod: dict[str, Any] = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "step"}]},
        "status": {"containerStatuses": [{"name": "step", "state": {"running": {}}}]},
    }
    add_sidecar(pod, RUNS)
    api.plan("GET", "pods/p/log", Reply(body=raw(1, "a")))

    lines = list(merged_logs(cluster, {"kind": "Job", "spec": {}}, [pod], None))

    assert [line.partition(" ")[2] for line in lines] == ["a"]
    assert [request.query.get("container") for request in api.requests] == ["step"]
