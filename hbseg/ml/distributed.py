"""The processes of one training, as torchrun started them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from hbseg.errors import SpecError, UnreachableError

COLLECTIVE_TIMEOUT = timedelta(minutes=10)
"""A rank that waits longer than this for the others gives up; torch's default is 30 minutes."""


@dataclass(frozen=True)
class World:
    """Place of this process among all."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes to storage."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all processes."""
        total = values.detach().clone().to(self.device)
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def copy_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite `tensors` with rank 0's."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def world(process_group: str) -> Iterator[World]:
    """Join the other processes; yields this one's place.

    Raises:
        SpecError: nccl without a GPU.
        UnreachableError: another process was lost in the middle of a collective.
    """
    if process_group == "auto":
        process_group = "nccl" if torch.cuda.is_available() else "gloo"
    if process_group == "nccl" and not torch.cuda.is_available():
        raise SpecError(
            "run.process_group is nccl, but no NVIDIA GPU is visible here",
            "set run.process_group=gloo, or give the step a GPU",
        )
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cpu")
    if process_group == "nccl":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if size == 1:
        yield World(rank=0, size=1, device=device)
        return
    try:
        dist.init_process_group(process_group, timeout=COLLECTIVE_TIMEOUT)
        yield World(rank, size, device)
    except RuntimeError as error:
        if _is_lost_peer(error):
            raise UnreachableError(f"rank {rank} lost another process: {error}") from error
        raise
    dist.destroy_process_group()


def _is_lost_peer(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("connection closed by peer", "connection reset", "gloo"))
