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

from hbseg.errors import PeerLost, SpecError, UnreachableError

COLLECTIVE_SECONDS = 600.0
"""A rank that waits longer than this for the others gives up, unless the launcher says otherwise
(`HBSEG_COLLECTIVE_TIMEOUT`); torch's default is 30 minutes."""

_LOST = (
    "connection closed by peer",
    "connection reset",
    "connection refused",
    "connection was closed",
    "connection timed out",
    "broken pipe",
    "timed out waiting",
    "timeout waiting for key",
    "wait timeout",
    "socket timeout",
    "application timeout",
    "no route to host",
    "network is unreachable",
    "failed to recv",
    "failed to send",
    "ncclremoteerror",
)
"""What gloo, nccl and the store say where another process is gone or does not answer."""
_MISUSED = ("ncclinvalidusage", "ncclinvalidargument", "duplicate gpu")
"""What nccl says where the fault is this process's own."""


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

    def check_same(self, digest: str) -> None:
        """Compare a digest (hex) with all processes'.

        Raises:
            UnreachableError: another process has another one: it read other inputs.
        """
        if self.size == 1:
            return
        mine = torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8, device=self.device)
        digests = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(digests, mine)
        others = [rank for rank, one in enumerate(digests) if not torch.equal(one, digests[0])]
        if others:
            raise UnreachableError(
                f"rank {others[0]} read another spec or other inputs than rank 0",
                "an input was replaced while the processes started: they start again",
            )

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def world(process_group: str) -> Iterator[World]:
    """Join the other processes; yields this one's place.

    Raises:
        SpecError: nccl without a GPU for each process.
        PeerLost: another process was lost, or did not come.
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
        device = _own_gpu(rank, int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        _repeatable()
    if size == 1:
        yield World(rank=0, size=1, device=device)
        return
    try:
        _join(process_group, rank, size)
        yield World(rank, size, device)
    except RuntimeError as error:
        if is_peer_lost(error):
            raise PeerLost(f"rank {rank} lost another process: {error}") from error
        raise
    dist.destroy_process_group()


def _join(process_group: str, rank: int, size: int) -> None:
    """Meet the other ranks: of one node by a file of the launcher's, else where torchrun says."""
    timeout = collective_timeout()
    path = os.environ.get("HBSEG_RANK_STORE")
    if not path:
        dist.init_process_group(process_group, timeout=timeout)
        return
    store = dist.FileStore(path, size)  # type: ignore[attr-defined]
    store.set_timeout(timeout)
    dist.init_process_group(process_group, store=store, rank=rank, world_size=size, timeout=timeout)


def _own_gpu(rank: int, local_rank: int) -> torch.device:
    visible = torch.cuda.device_count()
    if local_rank >= visible:
        raise SpecError(
            f"rank {rank} has no GPU of its own: {visible} visible here",
            f"start as many processes on a node as it has GPUs: -j NODESx{visible}",
        )
    return torch.device("cuda", local_rank)


def _repeatable() -> None:
    """Choose kernels that always add in the same order: a resumed training repeats the undisturbed.

    An operation that has no such kernel warns, once, and is run all the same.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    # An aid for finding bugs, which would fill each new tensor with NaN at a cost.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def collective_timeout() -> timedelta:
    """Return how long a process waits for the others: the launcher's word, or 10 minutes."""
    told = os.environ.get("HBSEG_COLLECTIVE_TIMEOUT")
    return timedelta(seconds=float(told) if told else COLLECTIVE_SECONDS)


def is_peer_lost(error: RuntimeError) -> bool:
    """Return whether an error says that another process is gone or does not answer.

    torch has types for the network and the store; gloo's errors are plain RuntimeErrors, which
    only their words tell from a bug's.
    """
    text = str(error).lower()
    if isinstance(error, dist.DistError):
        return not any(sign in text for sign in _MISUSED)
    return any(sign in text for sign in _LOST)
