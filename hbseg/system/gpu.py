"""Whether this machine has a GPU, without a library that would use it."""

from __future__ import annotations

from pathlib import Path

DEVICES = Path("/dev")


def has_gpu() -> bool:
    """Return whether a driver shows an NVIDIA GPU here: `nvidia0` and so on, in WSL `dxg`."""
    return any(DEVICES.glob("nvidia[0-9]*")) or (DEVICES / "dxg").exists()
