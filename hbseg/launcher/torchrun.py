"""The command and the environment of a step: torchrun where it trains, a plain process elsewhere.

On one node torchrun meets itself on the loopback address. On several the training operator tells
it by `PET_*` variables how many there are and where they meet; an identity of the attempt keeps
nodes of an older attempt out.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hbseg.config.placement import Placement
from hbseg.runs.steps import Step
from hbseg.system.cpu import usable_cores

_OPERATORS = re.compile(
    r"PET_.*|MASTER_ADDR|MASTER_PORT|RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|GROUP_RANK"
)
"""Variables with which an operator or an outer torchrun speaks to torchrun and to ranks."""
_MEETING = re.compile(r"PET_(RDZV_.*|NNODES|NODE_RANK|LOCAL_ADDR)")
"""Those of them that several nodes need to meet."""
MIN_COLLECTIVE = 120.0
"""Seconds."""
_CACHES = {
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "NUMBA_CACHE_DIR": "numba",
    "MPLCONFIGDIR": "matplotlib",
    "XDG_CACHE_HOME": "cache",
    "TMPDIR": "tmp",
}
"""Where libraries write, and the folder in the step's work folder that they are led to."""


def step_command(
    step: Step,
    placement: Placement,
    *,
    module: str,
    arguments: Sequence[str],
    files: Path,
    meeting: str,
) -> list[str]:
    """Return the command of a step.

    Args:
        step: decides whether torchrun starts it.
        placement: numbers of nodes and processes.
        module: of the step, started as `python -m`.
        arguments: for the step.
        files: folder for torchrun's own files.
        meeting: what only the nodes of this attempt share.
    """
    if not step.row.torchrun:
        return [sys.executable, "-m", module, *arguments]
    return [
        *(sys.executable, "-m", "hbseg_jobs.torchrun"),
        *_meeting_flags(placement, meeting),
        *("--nproc-per-node", str(placement.processes_per_node)),
        *("--max-restarts", "0"),
        *("--log-dir", str(files), "--tee", "3"),
        # without `--` torchrun looks for its own flags among the step's
        *("-m", "--", module, *arguments),
    ]


def _meeting_flags(placement: Placement, meeting: str) -> list[str]:
    if placement.nodes == 1:
        return ["--standalone", "--local-addr", "127.0.0.1", "--nnodes", "1"]
    flags = ["--rdzv-id", meeting]
    if "PET_RDZV_CONF" not in os.environ:
        # the nodes of a gang may start as far apart as one of them may wait for its start
        seconds = max(1, int(placement.pending_timeout))
        flags += ["--rdzv-conf", f"join_timeout={seconds},read_timeout={seconds}"]
    return flags


def step_environment(
    step: Step, placement: Placement, *, failures: Path, progress: Path, stop_seconds: float
) -> dict[str, str]:
    """Return the environment of a step's processes; threads are shared out between them.

    `failures` and `progress` are the folders for records of failed ranks and for beats;
    `stop_seconds` is torchrun's limit for its ranks, from SIGTERM to SIGKILL. What torchrun learned
    late is told by variables, not by flags, which an older one would refuse.
    """
    processes = placement.processes_per_node if step.row.torchrun else 1
    threads = str(placement.threads_per_process or max(1, usable_cores() // processes))
    environment = {
        **_own_environment(several_meet=step.row.torchrun and placement.nodes > 1),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "NUMBA_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "passive",  # waiting threads that spin starve the other processes
        "PYTHONUNBUFFERED": "1",
        "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[rank${rank}]:",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(max(1, int(stop_seconds))),
        "HBSEG_FAILURES": str(failures),
        "HBSEG_PROGRESS": str(progress),
        "HBSEG_COLLECTIVE_TIMEOUT": str(collective_timeout(placement.stall_timeout)),
    }
    if placement.nodes == 1 and sys.platform == "linux":
        # gloo looks the host's name up otherwise, which many laptops cannot resolve
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def collective_timeout(stall_timeout: float) -> float:
    """Return the seconds that a rank waits for the others: so long that a stall is seen before.

    Never less than `MIN_COLLECTIVE`: the first meeting waits for ranks that still load torch.
    """
    return max(MIN_COLLECTIVE, stall_timeout * 1.1 + 10.0)


def _own_environment(*, several_meet: bool) -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not _OPERATORS.fullmatch(name) or (several_meet and _MEETING.fullmatch(name))
    }


def writable_places(environment: Mapping[str, str], work: Path) -> dict[str, str]:
    """Return what leads libraries that keep files to a folder that can be written, in a pod.

    A pod's root file system may be read-only, and its user may have no name. What is set stays
    as it is.
    """
    places = {name: str(work / "caches" / folder) for name, folder in _CACHES.items()}
    wanted = {**places, "USER": "hbseg", "HOME": str(work)}
    missing = {name: value for name, value in wanted.items() if not environment.get(name)}
    for name in _CACHES.keys() & missing.keys():
        Path(missing[name]).mkdir(parents=True, exist_ok=True)
    return missing
