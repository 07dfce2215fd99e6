"""A fake step: does what `HBSEG_FAKE` says, through the real entry module.

`HBSEG_FAKE` is JSON: {prefix or step: [what to do at its first execution, at the next, ...]}; the
last one goes on. What to do: `ok`, `fail CODE [FILE]` (when the file is there), `exit CODE`, `kill
RANK`, `lost RANK` (its peers run into it), `tear CODE` (rank 0 fails with it, its peers tell of a
lost one), `wait` (for ever), `gate FILE` (until it is there), `stubborn` (ignores SIGTERM), `hang
RANK` (after three steps, and ignores SIGTERM; its peers wait for it), `linger` (writes its marker,
then waits for ever), `where` (prints some of its environment), `share` (ends well and leaves the
marker to another node), `turns` (its ranks meet over and over), `key KEY` (until it is in the
folder of the datasets), `oom` (takes memory without end).
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hbseg.errors import (
    ContractError,
    HbsegError,
    InvalidInput,
    NotFoundError,
    SpecError,
    UnreachableError,
)
from hbseg.storage.markers import sha256_of
from hbseg_jobs.entry import StepContext, run_step

ERRORS: dict[int, type[HbsegError]] = {
    65: InvalidInput,
    66: NotFoundError,
    76: ContractError,
    78: SpecError,
    170: UnreachableError,
}
RANK = int(os.environ.get("RANK", "0"))


def behaviour(context: StepContext) -> str:
    wanted = json.loads(os.environ.get("HBSEG_FAKE", "{}"))
    for name, what in wanted.items():
        if context.task.prefix == name or context.task.step == name:
            return str(what[min(context.attempt, len(what)) - 1])
    return "ok"


def until_there(gate: str) -> None:
    while gate and not Path(gate).exists():
        time.sleep(0.02)


def act(what: str, context: StepContext, peers: Callable[[], None]) -> None:
    action, _, value = what.partition(" ")
    print(f"rank {RANK} acts: {what}", flush=True)
    print("to stderr 손", file=sys.stderr, flush=True)
    if action in ("meet", "differ"):
        raise AssertionError(f"{action} is for a training of several processes")
    if action == "fail":
        code, _, gate = value.partition(" ")
        until_there(gate)
        raise ERRORS[int(code)](f"planned failure {code}", "no next step")
    if action == "tear":
        if RANK == 0:
            raise ERRORS[int(value)](f"planned failure {value}", "no next step")
        peers()
    if action == "bug":
        raise RuntimeError("planned bug")
    if action == "exit":
        os._exit(int(value))
    if action in ("kill", "lost") and int(value) == RANK:
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "lost":
        peers()
    if action == "wait" or (action == "kill" and int(value) != RANK):
        (context.work / f"waiting-{RANK}").touch()
        threading.Event().wait()
    if action == "gate":
        until_there(value)
    if action == "hang":
        for done in (1, 2, 3):
            context.heartbeat.beat(done, 400, "steps")
            context.heartbeat.flush()  # a test waits for this very step
            peers()
        if int(value) == RANK:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            threading.Event().wait()
        context.heartbeat.touch(waiting_for_peers=True)
        context.heartbeat.flush()
        peers()
    while action == "turns":
        peers()
        time.sleep(0.02)
    if action == "linger":
        finish(context)
        print("marker written", flush=True)
        threading.Event().wait()
    if action == "key":
        while not context.data.exists(value):
            time.sleep(0.2)
        print(f"the {value} is open", flush=True)
    if action == "oom":
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1 << 20) * 16))
    if action == "where":
        for name in ("TMPDIR", "NUMBA_CACHE_DIR", "USER", "RANK", "PET_NNODES"):
            print(f"{name}={os.environ.get(name)}", flush=True)
    if action == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Event().wait()


def finish(context: StepContext) -> None:
    content = json.dumps(
        {
            "prefix": context.task.prefix,
            "inputs": context.task.input_digests(),
            "threads": os.environ.get("OMP_NUM_THREADS"),
        }
    ).encode()
    name = {"infer": "submission.csv", "report": "report.html"}.get(context.task.step, "model")
    planted = f"fake/{context.task.prefix}/{name}"
    if context.data.exists(planted):
        content = context.data.get(planted)
    context.task.folder.put("spec.yaml", context.task.spec.to_yaml().encode())
    context.task.folder.put(name, content)
    context.finish({name: sha256_of(content)}, metrics={"dice": 0.5})


def work(context: StepContext) -> None:
    what = behaviour(context)
    act(what, context, lambda: None)
    if what != "share":
        finish(context)


if __name__ == "__main__":
    run_step(work)
