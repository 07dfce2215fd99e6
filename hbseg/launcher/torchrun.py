"""The command and the environment of a step: torchrun where it trains, a plain process elsewhere.

On one node nothing listens on a network: torchrun needs no rendezvous, its ranks meet by a file,
and what they say to each other stays on the loopback interface. On several the training operator
says by `PET_*` variables how many there are and where they meet; a random id of the attempt keeps
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
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""Variables that name the network interface on which a library listens."""
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
) -> list[str]:
    """Return the command of a step.

    Args:
        step: decides whether torchrun starts it.
        placement: numbers of nodes and processes.
        module: of the step, started as `python -m`.
        arguments: for the step.
        files: folder for torchrun's own files, this attempt's alone.
    """
    if not step.row.torchrun:
        return [sys.executable, "-m", module, *arguments]
    return [
        *(sys.executable, "-m", "hbseg_jobs.torchrun", str(report_file(files))),
        *_rendezvous_flags(placement),
        *("--nproc-per-node", str(placement.processes_per_node)),
        *("--max-restarts", "0"),
        *("--log-dir", str(files), "--tee", "3"),
        # without `--` torchrun looks for its own flags among the step's
        *("-m", "--", module, *arguments),
    ]


def report_file(files: Path) -> Path:
    """Return the file in torchrun's folder that says why it failed."""
    return files / "report.json"


def _rendezvous_flags(placement: Placement) -> list[str]:
    if placement.nodes == 1:
        # the backend is `hbseg.ml.elastic`'s; without an endpoint torchrun warns of a missing one
        return ["--nnodes", "1", "--rdzv-backend", "one-node", "--rdzv-endpoint", "none"]
    if "PET_RDZV_CONF" in os.environ:
        return []
    # the nodes of a gang may start as far apart as one of them may wait for its start
    seconds = max(1, int(placement.pending_timeout))
    return ["--rdzv-conf", f"join_timeout={seconds},read_timeout={seconds}"]


def step_environment(
    step: Step,
    placement: Placement,
    *,
    failures: Path,
    progress: Path,
    files: Path,
    rendezvous_id: str,
    stop_seconds: float,
) -> dict[str, str]:
    """Return the environment of a step's processes; threads are shared out between them.

    What torchrun learned late is told by variables, not by flags, which an older one would refuse.

    Args:
        step: decides whether torchrun starts it.
        placement: numbers of nodes, processes and threads.
        failures: folder for records of failed ranks.
        progress: folder for heartbeats.
        files: folder for torchrun's own files, this attempt's alone.
        rendezvous_id: what only the nodes of this attempt know. No flag, which other users of the
            machine could read.
        stop_seconds: torchrun's limit for its ranks, from SIGTERM to SIGKILL.
    """
    processes = placement.processes_per_node if step.row.torchrun else 1
    threads = str(placement.threads_per_process or max(1, usable_cores() // processes))
    several_meet = step.row.torchrun and placement.nodes > 1
    return {
        **_own_environment(several_meet=several_meet),
        **(_several(rendezvous_id) if several_meet else _alone(files)),
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


def _several(rendezvous_id: str) -> dict[str, str]:
    return {"PET_RDZV_ID": rendezvous_id, "HBSEG_RANK_STORE": ""}


def _alone(files: Path) -> dict[str, str]:
    environment = {"HBSEG_RANK_STORE": str(files / "ranks")}
    if sys.platform == "linux":
        # gloo looks the host's name up otherwise, which many laptops cannot resolve
        environment |= {name: os.environ.get(name, "lo") for name in _INTERFACES}
    return environment


def writable_places(environment: Mapping[str, str], work: Path) -> dict[str, str]:
    """Return the variables that point library caches at a writable folder, in a pod.

    A pod's root file system may be read-only, and its user may have no name. What is set stays
    as it is.
    """
    places = {name: str(work / "caches" / folder) for name, folder in _CACHES.items()}
    wanted = {**places, "USER": "hbseg", "HOME": str(work)}
    missing = {name: value for name, value in wanted.items() if not environment.get(name)}
    for name in _CACHES.keys() & missing.keys():
        Path(missing[name]).mkdir(parents=True, exist_ok=True)
    return missing
