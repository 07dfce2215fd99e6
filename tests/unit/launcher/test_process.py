"""The step's process, and what process 1 of a container owes the others."""

import subprocess
import sys
from pathlib import Path

from hbseg.launcher.process import run_process
from hbseg.launcher.rank_logs import RankLogs
from hbseg.launcher.root_cause import Cause
from hbseg.launcher.stop_request import stop_request

ORPHANS = """
import ctypes, os, subprocess, sys, time
from hbseg.launcher.process import reap_all_but
ctypes.CDLL(None).prctl(36, 1)  # orphans come to this process, as to process 1
own = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(7)"],
                       stdin=subprocess.PIPE)
orphan = "import os\\nif os.fork(): os._exit(0)\\nos.setsid()"
for _ in range(3):
    subprocess.run([sys.executable, "-c", orphan], check=True)
children = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
deadline = time.monotonic() + 240
while open(children).read().split() != [str(own.pid)]:
    assert time.monotonic() < deadline, open(children).read()
    reap_all_but(own.pid)
    time.sleep(0.01)
own.stdin.close()
os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
reap_all_but(own.pid)
assert own.wait() == 7
reap_all_but(own.pid)
"""


def test_orphans_are_reaped_and_the_own_child_s_code_is_kept() -> None:
    subprocess.run([sys.executable, "-c", ORPHANS], check=True, timeout=300)


def run(tmp_path: Path, program: str, cause: Cause | None = None) -> tuple[int, Cause | None, str]:
    logs = RankLogs(tmp_path, torchrun=False)
    with stop_request() as stop:
        code, cut = run_process(
            [sys.executable, "-c", program],
            {},
            logs,
            stop,
            look=lambda: cause if (tmp_path / "0.log").exists() else None,
            stop_seconds=20.0,
        )
    logs.close()
    text = (tmp_path / "0.log").read_text()
    return code, cut, "".join(line.partition(" ")[2] for line in text.splitlines(True))


def test_all_lines_come_through_up_to_the_end(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(30_000))
    program = "print('\\n'.join(f'line {n}' for n in range(30_000)), flush=True); exit(3)"

    assert run(tmp_path, program) == (3, None, lines)


def test_a_step_that_must_end_is_ended_for_the_cause(tmp_path: Path) -> None:
    cause = Cause(170, "stalled", 1)
    program = "import time; print('here', flush=True); time.sleep(600)"

    assert run(tmp_path, program, cause) == (143, cause, "here\n")
