"""Checks of this machine, for the local backend."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hbseg.doctor.check import Check, failed, ok, warning
from hbseg.storage.files import free_bytes

MIN_FREE: Final = 5 * 2**30
"""Bytes of disk below which a training may not end well."""
TORCH_SECONDS: Final = 120.0

_TORCH: Final = (
    "import torch; print(torch.__version__, torch.cuda.device_count() "
    "if torch.cuda.is_available() else 0)"
)


def torch(command: tuple[str, ...] = (sys.executable, "-c", _TORCH)) -> Iterator[Check]:
    """Whether a process of this Python can load torch, and how many GPUs it sees."""
    fix = "pip install 'hbseg[ml]'"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TORCH_SECONDS)
    except subprocess.TimeoutExpired:
        yield failed("torch", f"was not loaded in {TORCH_SECONDS:.0f} s", fix)
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        yield failed("torch", f"cannot be loaded: {last[:200]}", fix)
        return
    version, _, gpus = done.stdout.strip().rpartition(" ")
    yield ok("torch", f"{version}, {gpus} GPUs")


def disk(state: Path, least: int = MIN_FREE) -> Iterator[Check]:
    """Whether the disks of the state folder and of temporary files have room."""
    for name, folder in (("state", state), ("temporary files", Path(tempfile.gettempdir()))):
        free = free_bytes(folder)
        text = f"{name} in {folder}: {free / 2**30:.1f} GiB free"
        if free < least:
            yield warning("disk", text, f"free some, {least / 2**30:.0f} GiB are little enough")
        else:
            yield ok("disk", text)
