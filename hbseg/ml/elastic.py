"""torchrun as the launcher needs it: no socket on one node, and failures as data.

torch's own rendezvous of one node (`--standalone`) has two TCP stores. They listen on all
interfaces whatever `--local-addr` says, ask for no password, and unpickle what they are sent
(https://github.com/pytorch/pytorch/issues/173909).
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from torch.distributed import (  # type: ignore[attr-defined]
    DistNetworkError,
    DistStoreError,
    HashStore,
)
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousGracefulExitError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    RendezvousTimeoutError,
    rendezvous_handler_registry,
)
from torch.distributed.run import main as torchrun

from hbseg.errors import HbsegError

ONE_NODE = "one-node"
"""Name of the rendezvous backend `OneNodeRendezvous`; the launcher gives it to torchrun."""
_ABSENT = (RendezvousTimeoutError, RendezvousClosedError)
_LOST = (
    RendezvousConnectionError,
    RendezvousGracefulExitError,
    DistNetworkError,
    DistStoreError,
)


class OneNodeRendezvous(RendezvousHandler):
    """The rendezvous of a node that is alone: its store is in torchrun's own memory.

    The ranks are given no address (`MASTER_ADDR` is empty, which torch refuses): they meet by the
    file `HBSEG_RANK_STORE`.
    """

    def __init__(self, parameters: RendezvousParameters) -> None:
        self._run_id = parameters.run_id
        self._closed = False

    def get_backend(self) -> str:
        """Return the backend's name."""
        return ONE_NODE

    def next_rendezvous(self) -> RendezvousInfo:
        """Return a store of this process alone, and this node as the only one."""
        return RendezvousInfo(HashStore(), 0, 1, RendezvousStoreInfo("", 0))

    def is_closed(self) -> bool:
        """Return whether torchrun has ended it."""
        return self._closed

    def set_closed(self) -> None:
        """End it."""
        self._closed = True

    def num_nodes_waiting(self) -> int:
        """Return 0: no node can come later."""
        return 0

    def get_run_id(self) -> str:
        """Return what torchrun was given as `--rdzv-id`."""
        return self._run_id

    def shutdown(self) -> bool:
        """End it; it has nothing to free."""
        self.set_closed()
        return True


def run_torchrun(report: Path, arguments: Sequence[str]) -> None:
    """Run torchrun with its command line `arguments`; where it fails, write `report`.

    Raises:
        ChildFailedError: a rank failed.
        Exception: torchrun itself failed, or a signal ended it.
    """
    rendezvous_handler_registry.register(ONE_NODE, OneNodeRendezvous)
    stopped = _note_stops()
    try:
        torchrun(list(arguments))
    except (ChildFailedError, *_ABSENT, *_LOST) as error:
        with suppress(OSError, HbsegError):  # on a full disk the launcher has the log alone
            _write_report(report, error, stopped)
        raise


def _note_stops() -> set[int]:
    """Return a set that gets the pid of every rank which torchrun ends from now on.

    torch has no other record of them than a line of its log.
    """
    pids: set[int] = set()
    close = SubprocessHandler.close

    def noted(self: SubprocessHandler, death_sig: signal.Signals | None = None) -> None:
        pids.add(self.proc.pid)
        close(self, death_sig)

    SubprocessHandler.close = noted  # type: ignore[method-assign]
    return pids


def _write_report(path: Path, error: Exception, stopped: Collection[int]) -> None:
    # loaded here, since a training that ends well does not need it: 0.15 s of each start
    from hbseg.runs.torchrun_report import RankExit, TorchrunReport

    if not isinstance(error, ChildFailedError):
        TorchrunReport(nodes="absent" if isinstance(error, _ABSENT) else "lost").write(path)
        return
    exits = [
        RankExit(
            rank=rank,
            local_rank=failure.local_rank,
            pid=failure.pid,
            exit_code=failure.exitcode,
            time=failure.timestamp,
            stopped=failure.pid in stopped,
        )
        for rank, failure in error.failures.items()
    ]
    # in whole seconds; within one, torch's order is that in which it saw the ranks end
    TorchrunReport(exits=sorted(exits, key=lambda one: one.time)).write(path)
