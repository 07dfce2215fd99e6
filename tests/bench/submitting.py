"""From a submit to the start of the first pod's container, beside `kubectl apply` of the same."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from hbseg.storage.markers import write_marker
from hbseg.storage.opening import open_store
from tests.bench.costs import Command, medians
from tests.bench.figures import Figure
from tests.bench.place import BUCKET, Place
from tests.cluster.namespace import TestNamespace, fresh_namespace
from tests.cluster.node.lease import lease
from tests.cluster.node.requirements import obstacle
from tests.cluster.own import own_ground
from tests.cluster.team import Team, team_of

TIMES = 5
START_SECONDS = 120.0
VERSION = "0123456789abcdef"
COLUMNS = "{.metadata.name} {.status.containerStatuses[0].state.running.startedAt}"


def figures(folder: Path, s3: Place) -> list[Figure]:
    """Return the figures, or none, with the reason told, where the test node cannot run."""
    if reason := obstacle():
        print(f"not measured: submits to a cluster: {reason}", file=sys.stderr)
        return []
    with team_on_the_node(folder, s3) as team:
        return [_starts(team), _status(team)]


@contextmanager
def team_on_the_node(folder: Path, s3: Place) -> Iterator[Team]:
    """Yield a team, which has the node alone, in a fresh namespace; its pods do next to nothing."""
    with ExitStack() as held:
        node = held.enter_context(lease())
        ground = held.enter_context(own_ground(node, s3.server))
        held.enter_context(ground.turn(alone=True))
        namespace = held.enter_context(fresh_namespace(ground))
        home = folder / "team"
        home.mkdir()
        team = held.enter_context(team_of(namespace, BUCKET, home))
        data = open_store(f"{team.url}/data").folder(f"versions/{VERSION}")
        write_marker(data, step="prepare", spec_hash="x", inputs={}, outputs={})
        yield team.faking("{}")


def _starts(team: Team) -> Figure:
    ours, plain = [], []
    for turn in range(TIMES + 1):
        started = seconds_to_start(team.namespace, f"ours-{turn}", lambda run: _submit(team, run))
        applied = seconds_to_start(team.namespace, f"plain-{turn}", _applies(team, f"plain-{turn}"))
        if turn:  # the first ones warm the caches of both sides
            ours.append(started)
            plain.append(applied)
    return Figure(
        "hbseg submit-train until the container starts (baseline: kubectl apply)",
        "s",
        median(ours),
        median(plain),
    )


def _status(team: Team) -> Figure:
    team.hbseg(*_train("looked-at"))
    command = Command(team.command("status", "looked-at"), team.environment, team.folder)
    plain = Command([sys.executable, "-c", "import typer"], team.environment)
    costs = medians({"ours": command, "typer": plain}, TIMES)
    name = "hbseg status, Kubernetes, runs in S3: CPU (baseline: import typer)"
    return Figure(name, "s", costs["ours"].cpu, costs["typer"].cpu)


def seconds_to_start(
    namespace: TestNamespace, run: str, start: Callable[[str], subprocess.Popen[str]]
) -> float:
    """Start a run's job; return the seconds until its container is seen to run, and clean up.

    The start is seen by a watch, on our own clock: Kubernetes tells of whole seconds only.
    """
    with _pods(namespace) as lines:
        begin = time.perf_counter()
        with start(run) as process:
            for line in lines:
                pod, _, since = line.strip().partition(" ")
                if pod.startswith(f"{run}-") and since:
                    break
            else:
                raise RuntimeError(f"no pod of {run} started: {namespace.kubectl('get', 'events')}")
            seconds = time.perf_counter() - begin
            process.communicate()
        if process.returncode:
            raise RuntimeError(f"{process.args!r} failed")
    namespace.kubectl("delete", "pytorchjobs,configmaps", "-l", f"hbseg.io/run={run}")
    namespace.kubectl("delete", "pods", "--all", "--grace-period=1")
    return seconds


@contextmanager
def _pods(namespace: TestNamespace) -> Iterator[Iterator[str]]:
    """Yield a line for each change of a pod, until `START_SECONDS` have passed."""
    watch = subprocess.Popen(
        _kubectl(namespace, "get", "pods", "--watch", "-o", f"jsonpath={COLUMNS}\n"),
        stdout=subprocess.PIPE,
        text=True,
    )
    limit = threading.Timer(START_SECONDS, watch.kill)
    with watch:
        limit.start()
        try:
            assert watch.stdout
            yield iter(watch.stdout)
        finally:
            limit.cancel()
            watch.kill()


def _submit(team: Team, run: str) -> subprocess.Popen[str]:
    return team.start(*_train(run))


def _applies(team: Team, run: str) -> Callable[[str], subprocess.Popen[str]]:
    """Return what applies the very manifests that a submit makes; they are made beforehand."""
    manifests = team.folder / f"{run}.yaml"
    manifests.write_text(team.hbseg(*_train(run), "--dry-run").stdout)
    return lambda _: subprocess.Popen(
        _kubectl(team.namespace, "apply", "-f", str(manifests)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _kubectl(namespace: TestNamespace, *words: str) -> list[str]:
    return namespace.cluster.command(f"--namespace={namespace.name}", *words)


def _train(run: str) -> tuple[str, ...]:
    return ("submit-train", "--stage", "1", "--run", run, "--set", f"dataset.version={VERSION}")
