"""The launcher as pods start it, here as processes: one attempt, then a code for the operator."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from hbseg.config.placement import Placement
from hbseg.runs.attempts import AttemptResult, read_attempt, read_failure
from hbseg.runs.progress import read_progress
from hbseg.runs.run import Run
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step
from hbseg.runs.task import Task
from hbseg.storage.markers import read_marker
from hbseg.storage.opening import open_store
from tests.conftest import S3Place
from tests.integration.conftest import STATE_SECONDS, Local, until
from tests.integration.fakes.fake_chain import MODULES


@dataclass
class Pod:
    """One start of a container."""

    folder: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def wait(self) -> int:
        out, _ = self.process.communicate(timeout=STATE_SECONDS)
        self.lines = (self.folder / "stdout").read_text().splitlines()
        assert out is None
        return self.process.returncode

    def until_line(self, text: str) -> None:
        out = self.folder / "stdout"
        until(
            lambda: text in out.read_text() or self.process.poll() is not None, f"{text} is printed"
        )
        assert text in out.read_text(), (self.folder / "stderr").read_text()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    @property
    def message(self) -> AttemptResult:
        return AttemptResult.from_text((self.folder / "termination").read_bytes(), source="message")

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    def torchrun(self) -> psutil.Process:
        children = psutil.Process(self.process.pid).children()
        return next(c for c in children if "hbseg_jobs.torchrun" in c.cmdline())


@dataclass
class Cluster:
    """Starts containers of a run's tasks."""

    local: Local
    environment: dict[str, str] = field(default_factory=dict)
    started: list[Pod] = field(default_factory=list)

    def start(
        self,
        task: Task,
        *,
        node: int = 0,
        grace: float = 30.0,
        **placement: float,
    ) -> Pod:
        folder = self.local.folder / f"pod-{len(self.started)}"
        (folder / "job").mkdir(parents=True)
        (folder / "spec.yaml").write_text(task.spec.to_yaml())
        call = StepCall.of(self.local.run, task, data=self.local.data.url)
        command = [
            *(sys.executable, "-m", "hbseg_jobs.launch", "--in-pod", "--grace", str(grace)),
            *("--job", str(folder / "job"), "--module", MODULES[task.step]),
            *("--placement", Placement(**placement).for_launcher(), "--"),
            *call.arguments(spec_file=str(folder / "spec.yaml"), work=str(folder / "work")),
        ]
        environment = {
            **os.environ,
            "HBSEG_NODE": str(node),
            "HBSEG_TERMINATION_LOG": str(folder / "termination"),
            **self.environment,
        }
        with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=err, text=True)
        self.started.append(Pod(folder, process))
        return self.started[-1]

    def meet_again(self) -> None:
        """Say where two nodes meet, as the operator does."""
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.environment |= {
            "PET_RDZV_BACKEND": "c10d",
            "PET_RDZV_ENDPOINT": f"127.0.0.1:{port}",
            "PET_NNODES": "2:2",
            "PET_LOCAL_ADDR": "127.0.0.1",
            "PET_NPROC_PER_NODE": "5",
            "GLOO_SOCKET_IFNAME": "lo",
        }

    def gang(self, task: Task, **placement: float) -> tuple[Pod, Pod]:
        """Start two nodes that meet on the loopback address."""
        self.meet_again()
        first, second = (self.start(task, node=node, nodes=2, **placement) for node in (0, 1))
        return first, second


@pytest.fixture
def cluster(local: Local) -> Iterator[Cluster]:
    cluster = Cluster(local)
    yield cluster
    for pod in cluster.started:
        pod.process.kill()
        pod.process.wait()


def ending_of(local: Local, step: Step, number: int) -> AttemptResult:
    attempt = read_attempt(local.run, step, number)
    assert attempt is not None
    assert attempt.result is not None
    return attempt.result


def test_a_step_that_ends_well_leaves_its_lines_and_its_word(
    local: Local, cluster: Cluster
) -> None:
    pod = cluster.start(local.task())

    assert pod.wait() == 0

    texts = [line.partition(" ")[2] for line in pod.lines]
    assert texts == ["[0] rank 0 acts: ok", "[0] to stderr 손"]
    assert [line.partition(" ")[0] for line in pod.lines] == sorted(
        line.partition(" ")[0] for line in pod.lines
    )
    assert (pod.message.code, pod.message.attempt, pod.message.final) == (0, 1, True)
    assert ending_of(local, Step.COMPILE, 1).code == 0
    assert local.run.read().steps == {"engine/abc": "done"}
    stored = local.run.folder.get("logs/compile/1/0.log").decode().splitlines()
    assert [line.partition(" ")[2] for line in stored] == [
        text.removeprefix("[0] ") for text in texts
    ]


def test_a_step_that_is_done_is_not_done_again(local: Local, cluster: Cluster) -> None:
    task = local.task()
    assert cluster.start(task).wait() == 0
    marker = read_marker(task.folder)

    again = cluster.start(task)

    assert again.wait() == 0
    assert "done already" in again.said
    assert read_marker(task.folder) == marker


def test_a_failure_that_may_pass_asks_for_another_start_until_none_is_left(
    local: Local, cluster: Cluster
) -> None:
    local.fake(compile=["fail 170"])
    task = local.task()

    first = cluster.start(task, retries=1)
    assert first.wait() == 170
    assert (first.message.code, first.message.final) == (170, False)
    assert local.run.read().steps == {"engine/abc": "running"}
    second = cluster.start(task, retries=1)
    assert second.wait() == 1
    assert (second.message.code, second.message.attempt, second.message.final) == (170, 2, True)
    assert second.message.reason == "planned failure 170; no next step"
    assert local.run.read().steps == {"engine/abc": "failed"}
    failure = read_failure(local.run, Step.COMPILE, 2)
    assert failure == second.message

    third = cluster.start(task, retries=1)  # submitted again: a new series

    assert third.wait() == 170
    assert third.message.attempt == 3


@pytest.mark.parametrize(
    ("act", "codes"),
    [("fail 65", [65]), ("bug", [70]), ("exit 3", [170, 1]), ("kill 0", [170, 1])],
)
def test_codes_tell_the_operator_what_to_do(
    local: Local, cluster: Cluster, act: str, codes: list[int]
) -> None:
    local.fake(compile=[act])
    task = local.task()

    assert [cluster.start(task, retries=5).wait() for _ in codes] == codes

    assert cluster.started[-1].message.final
    assert not any(pod.message.final for pod in cluster.started[:-1])


def test_attempts_that_were_killed_with_their_launcher_are_counted(
    local: Local, cluster: Cluster
) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    for _ in range(2):
        pod = cluster.start(task)
        pod.until_line("acts: wait")
        pod.process.kill()
        pod.process.wait()

    third = cluster.start(task)

    assert third.wait() == 1
    assert (third.message.code, third.message.final) == (137, True)
    assert "2 of the last 2 attempts were killed together with their launcher" in (
        third.message.reason
    )
    assert third.lines == []


def test_sigterm_is_no_failure(local: Local, cluster: Cluster) -> None:
    local.fake(compile=["wait"])
    task = local.task()
    for number in (1, 2):
        pod = cluster.start(task, retries=0)
        pod.until_line("acts: wait")
        pod.terminate()
        assert pod.wait() == 143
        assert (pod.message.code, pod.message.attempt, pod.message.final) == (143, number, False)
        assert "acts: wait" in local.run.folder.get(f"logs/compile/{number}/0.log").decode()
    local.fake(compile=["fail 170"])

    last = cluster.start(task, retries=1)

    assert last.wait() == 170


def test_sigterm_after_the_marker_is_a_success(local: Local, cluster: Cluster) -> None:
    local.fake(compile=["linger"])
    task = local.task()
    pod = cluster.start(task)
    pod.until_line("marker written")

    pod.terminate()

    assert pod.wait() == 0
    assert pod.message.code == 0
    assert ending_of(local, Step.COMPILE, 1).code == 0


@pytest.mark.parametrize("step", [Step.COMPILE, Step.STAGE1])
def test_a_step_that_ignores_sigterm_ends_within_the_grace(
    local: Local, cluster: Cluster, step: Step
) -> None:
    local.fake(**{step: ["stubborn"]})
    pod = cluster.start(local.task(step), grace=6.0)
    pod.until_line("acts: stubborn")

    pod.terminate()

    assert pod.wait() == 143
    assert "acts: stubborn" in local.run.folder.get(f"logs/{step}/1/0.log").decode()


def test_storage_that_refuses_an_attempt_ends_all(local: Local, cluster: Cluster) -> None:
    (local.folder / "runs" / "first" / "attempts").write_text("")  # no folder for attempts
    pod = cluster.start(local.task())

    assert pod.wait() == 66

    assert (pod.message.code, pod.message.attempt, pod.message.final) == (66, 0, True)


def test_storage_that_is_down_is_waited_for_and_then_given_up(
    local: Local, cluster: Cluster, s3: S3Place
) -> None:
    local.run = Run(open_store(f"{s3.url}/runs"), "first")
    cluster.environment = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    patient = cluster.start(local.task(), retries=0)
    hasty = cluster.start(local.task(), retries=0, pending_timeout=0.01)

    assert hasty.wait() == 1
    assert (hasty.message.code, hasty.message.final) == (170, True)
    until(lambda: "trying again in 2 s" in patient.said, "it tries again more often than retries")
    patient.terminate()
    assert patient.wait() == 143
    assert (patient.message.code, patient.message.final) == (143, False)


def test_what_the_operator_says_to_torchrun_does_not_reach_a_single_step(
    local: Local, cluster: Cluster
) -> None:
    local.fake(compile=["where"])
    cluster.environment = {"RANK": "1", "WORLD_SIZE": "2", "PET_NNODES": "2:2", "TMPDIR": ""}
    pod = cluster.start(local.task())

    assert pod.wait() == 0

    told = dict(
        line.partition(" ")[2].removeprefix("[0] ").split("=", 1)
        for line in pod.lines
        if "=" in line
    )
    assert (told["RANK"], told["PET_NNODES"]) == ("None", "None")
    for name in ("TMPDIR", "NUMBA_CACHE_DIR"):
        assert Path(told[name]).is_relative_to(pod.folder / "work")
    assert told["USER"] not in ("", "None")


def test_a_shared_step_is_done_when_its_last_node_is(local: Local, cluster: Cluster) -> None:
    local.fake(infer=["share", "ok"])
    task = local.task(Step.INFER)

    assert cluster.start(task, node=0, nodes=2).wait() == 0
    assert local.run.read().steps == {"infer": "running"}
    assert cluster.start(task, node=1, nodes=2).wait() == 0

    assert local.run.read().steps == {"infer": "done"}


def test_nodes_that_share_a_step_fail_each_for_itself(local: Local, cluster: Cluster) -> None:
    gate = local.folder / "gate"
    task = local.task(Step.INFER)
    local.fake(infer=[f"fail 65 {gate}"])
    slow = cluster.start(task, node=0, nodes=2)
    slow.until_line("acts: fail 65")
    local.fake(infer=["fail 170"])
    other = cluster.start(task, node=1, nodes=2)

    assert other.wait() == 170
    gate.touch()

    assert slow.wait() == 65
    assert (slow.message.attempt, other.message.attempt) == (1, 1)
    assert (slow.message.code, slow.message.final) == (65, True)


def test_one_node_trains_with_its_own_torchrun(local: Local, cluster: Cluster) -> None:
    local.fake(stage1=["meet"])
    cluster.environment = {"PET_NNODES": "4:4", "PET_RDZV_ENDPOINT": "nowhere:1", "RANK": "3"}
    pod = cluster.start(local.task(Step.STAGE1), processes_per_node=2)

    assert pod.wait() == 0

    assert sum("met 2 ranks" in line for line in pod.lines) == 2


def test_two_nodes_meet_in_one_attempt(local: Local, cluster: Cluster) -> None:
    local.fake(stage1=["meet"])
    pods = cluster.gang(local.task(Step.STAGE1))

    assert [pod.wait() for pod in pods] == [0, 0]

    assert {pod.message.attempt for pod in pods} == {1}
    keys = [entry.key for entry in local.run.folder.list("attempts/stage1/")]
    assert keys == [
        "attempts/stage1/1.json",
        "attempts/stage1/1/0.json",
        "attempts/stage1/1/1.json",
    ]
    ranks = set()
    for pod in pods:
        own = [line for line in pod.lines if "met 2 ranks" in line]
        assert len(own) == 1
        ranks.add(own[0].split(" ")[1])
    assert ranks == {"[0]", "[1]"}
    for rank in (0, 1):
        log = local.run.folder.get(f"logs/stage1/1/{rank}.log").decode()
        assert f"rank {rank} acts: ok" in log
        assert f"rank {1 - rank} acts" not in log
    assert ending_of(local, Step.STAGE1, 1).code == 0


def test_a_lost_node_ends_the_other_one_and_both_meet_again(local: Local, cluster: Cluster) -> None:
    local.fake(stage1=["turns", "meet"])
    task = local.task(Step.STAGE1)
    lost, other = cluster.gang(task)
    for pod in (lost, other):
        pod.until_line("acts: turns")
    attempt = read_attempt(local.run, Step.STAGE1, 1)
    assert attempt is not None
    ids = {pod.torchrun().environ()["PET_RDZV_ID"] for pod in (lost, other)}
    assert ids == {attempt.rendezvous_id}

    lost.torchrun().kill()

    assert [lost.wait(), other.wait()] == [170, 170]
    result = ending_of(local, Step.STAGE1, 1)
    assert (result.code, result.peer_lost, result.final) == (137, False, False)
    again = cluster.gang(task)
    assert [pod.wait() for pod in again] == [0, 0]
    assert {pod.message.attempt for pod in again} == {2}
    assert all(any("met 2 ranks" in line for line in pod.lines) for pod in again)


def test_a_node_that_is_killed_with_its_launcher_leaves_the_other_one_s_word(
    local: Local, cluster: Cluster
) -> None:
    local.fake(stage1=["turns"])
    lost, other = cluster.gang(local.task(Step.STAGE1))
    for pod in (lost, other):
        pod.until_line("acts: turns")

    lost.process.kill()

    assert other.wait() == 170
    result = ending_of(local, Step.STAGE1, 1)
    assert (result.code, result.peer_lost, result.final) == (170, True, False)
    # Whichever sees it first: the rank its peer's end, or torchrun its rendezvous' end.
    assert any(word in result.reason for word in ("lost another process", "keeps the rendezvous"))


def test_a_node_that_waits_in_an_older_attempt_gives_it_up(local: Local, cluster: Cluster) -> None:
    gate = local.folder / "gate"
    local.fake(stage1=["ok", f"meet gate {gate}"])
    task = local.task(Step.STAGE1)
    cluster.meet_again()
    waiting = cluster.start(task, node=0, nodes=2)
    until(lambda: read_attempt(local.run, Step.STAGE1, 1) is not None, "attempt 1 has begun")

    cluster.meet_again()
    pods = [cluster.start(task, node=0, nodes=2)]
    until(lambda: read_attempt(local.run, Step.STAGE1, 2) is not None, "attempt 2 has begun")
    pods.append(cluster.start(task, node=1, nodes=2))

    assert waiting.wait() == 170
    assert waiting.message.peer_lost
    gate.touch()
    assert [pod.wait() for pod in pods] == [0, 0]
    assert {pod.message.attempt for pod in pods} == {2}


def test_ranks_that_read_other_inputs_start_again(local: Local, cluster: Cluster) -> None:
    local.fake(stage1=["differ"])
    pods = cluster.gang(local.task(Step.STAGE1))

    assert [pod.wait() for pod in pods] == [170, 170]

    result = ending_of(local, Step.STAGE1, 1)
    assert "rank 1 read another spec or other inputs than rank 0" in result.reason
    assert not result.peer_lost


def test_the_cause_of_the_end_counts_and_not_the_lost_peer(local: Local, cluster: Cluster) -> None:
    local.fake(stage1=["tear 65"])
    pods = cluster.gang(local.task(Step.STAGE1))

    codes = sorted(pod.wait() for pod in pods)

    assert codes[0] == 65
    assert codes[1] in (65, 170)
    result = ending_of(local, Step.STAGE1, 1)
    assert (result.code, result.rank, result.reason) == (65, 0, "planned failure 65; no next step")
    assert read_failure(local.run, Step.STAGE1, 1) == result


def test_others_that_do_not_come_are_a_lost_peer(local: Local, cluster: Cluster) -> None:
    cluster.meet_again()
    pod = cluster.start(local.task(Step.STAGE1), nodes=2, pending_timeout=2)

    assert pod.wait() == 170

    assert pod.message.reason == "the other nodes did not come: rendezvous timed out"
    assert pod.message.peer_lost


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_rank_that_stalls_is_ended_and_named(local: Local, cluster: Cluster, nodes: int) -> None:
    local.fake(stage1=["hang 1"])
    task = local.task(Step.STAGE1)
    pods = (
        [*cluster.gang(task, stall_timeout=3)]
        if nodes == 2
        else [cluster.start(task, processes_per_node=2, stall_timeout=3)]
    )

    assert [pod.wait() for pod in pods] == [170] * nodes

    result = ending_of(local, Step.STAGE1, 1)
    assert (result.code, result.rank, result.final) == (170, 1, False)
    assert result.reason == "rank 1 stalled: no step for 3 s, last was step 3 of 400"
    report = read_progress(local.run, Step.STAGE1, 1)
    assert report is not None
    assert (report.done, report.total, report.unit, report.stall_timeout) == (3, 400, "steps", 3)
