"""What torchrun's process leaves for the launcher, with real ranks that are shell scripts."""

import os
import subprocess
import sys
from pathlib import Path

from hbseg.runs.torchrun_report import TorchrunReport, read_torchrun_report

ONE_NODE = ("--nnodes", "1", "--rdzv-backend", "one-node", "--rdzv-endpoint", "none")


def report_of(folder: Path, *flags: str, script: str) -> TorchrunReport:
    """Return the report of a torchrun that fails, with ranks that run `script` in `folder`."""
    path = folder / "report.json"
    flags = (*flags, "--nproc-per-node", "2", "--log-dir", str(folder / "logs"), "--no-python")
    command = [sys.executable, "-m", "hbseg_jobs.torchrun", str(path), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1"}

    done = subprocess.run(
        [*command, "--", "sh", "-c", script], cwd=folder, env=environment, check=False
    )

    assert done.returncode == 1
    return read_torchrun_report(path)


def test_a_rank_that_torchrun_stopped_is_told_from_the_one_that_failed(tmp_path: Path) -> None:
    fails = "until [ -e ready ]; do sleep 0.05; done; exit 3"
    is_stopped = "trap 'exit 5' TERM; touch ready; while :; do sleep 0.05; done"

    script = f"if [ $RANK = 1 ]; then {fails}; fi; {is_stopped}"
    report = report_of(tmp_path, *ONE_NODE, script=script)

    exits = [(each.rank, each.exit_code, each.stopped) for each in report.exits]
    assert exits == [(1, 3, False), (0, 5, True)]
    assert report.nodes is None


def test_a_rank_that_a_signal_ended_has_a_negative_code(tmp_path: Path) -> None:
    kills_itself = "kill -KILL $$$$"  # torchrun makes one $ of two
    report = report_of(tmp_path, *ONE_NODE, script=kills_itself)

    codes = {each.rank: each.exit_code for each in report.exits if not each.stopped}
    assert codes
    assert set(codes.values()) == {-9}
    assert [each.local_rank for each in report.exits] == [each.rank for each in report.exits]


def test_a_rendezvous_that_nobody_keeps_is_a_lost_node(tmp_path: Path) -> None:
    nobody = ("--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:9")

    report = report_of(
        tmp_path, *nobody, "--rdzv-conf", "is_host=0,read_timeout=1", script="exit 0"
    )

    assert (report.exits, report.nodes) == ([], "lost")


def test_a_bug_of_torchrun_s_own_leaves_no_report(tmp_path: Path) -> None:
    report_of(tmp_path, "--nnodes", "2:1", script="exit 0")

    assert not (tmp_path / "report.json").exists()
