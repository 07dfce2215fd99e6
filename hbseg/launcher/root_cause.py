"""Why an attempt failed: the rank that failed first, and the code that says what may follow."""

from __future__ import annotations

import json
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hbseg.exit_codes import StepExit
from hbseg.launcher.rank_logs import RankLogs
from hbseg.runs.attempts import AttemptResult
from hbseg.system.clock import now

_TORCHRUN_STOPS = re.compile(r"Sending process (\d+) closing signal")
_TORCHRUN_RANK = re.compile(r"rank +: (\d+) \(local_rank")
_TORCHRUN_EXIT = re.compile(r"exitcode +: (-?\d+) \(pid: (\d+)\)")
_NCCL_GAVE_UP = re.compile(r"ProcessGroupNCCL.*(watchdog|timeout|ncclRemoteError)", re.IGNORECASE)
_OTHERS_ABSENT = re.compile(r"RendezvousTimeoutError|RendezvousClosedError")
_OTHERS_LOST = re.compile(
    r"RendezvousConnectionError|RendezvousGracefulExitError|DistNetworkError|DistStoreError"
    r"|Connection reset by peer|Broken pipe"
)


@dataclass(frozen=True)
class Cause:
    """What ended an attempt."""

    code: int
    reason: str
    rank: int | None = None
    peer_lost: bool = False
    """Whether only another process was missed."""

    def result(self, attempt: int) -> AttemptResult:
        """Return the result of an attempt, as of now."""
        return AttemptResult(
            code=self.code,
            reason=self.reason,
            attempt=attempt,
            finished=now(),
            rank=self.rank,
            peer_lost=self.peer_lost,
        )


def ended(code: int, reason: str, attempt: int = 0) -> AttemptResult:
    """Return how an attempt ended, as of now."""
    return Cause(code, reason).result(attempt)


def explained(
    code: int, logs: RankLogs, failures: Path, number: int, *, stopped: bool
) -> AttemptResult:
    """Return how the attempt ended: the root cause, where its code is not 0."""
    if code == 0:
        return ended(0, "", number)
    if stopped:
        return ended(StepExit.TERMINATED, "cancelled by SIGTERM", number)
    return _cause(code, logs, failures).result(number)


def _cause(code: int, logs: RankLogs, failures: Path) -> Cause:
    exits = exits_by_themselves(logs.own_text())
    # A rank that a signal ended leaves no record, and its peers fail only because it is gone.
    for rank, rank_code in exits.items():
        if rank_code < 0:
            return _killed_rank(rank, -rank_code, logs)
    recorded = records(failures)
    found = min(recorded, key=_order, default=None)
    if found is not None and found.code != StepExit.TERMINATED and not found.peer_lost:
        return found
    for rank, rank_code in exits.items():
        if rank not in {record.rank for record in recorded}:
            return Cause(rank_code, _no_record(f"rank {rank}", rank_code, logs), rank)
    if found is not None and (exits or found.peer_lost):
        return found
    return _without_ranks(code, logs)


def _order(record: Record) -> tuple[bool, bool, float]:
    return record.code == StepExit.TERMINATED, record.peer_lost, record.time


def _killed_rank(rank: int, signum: int, logs: RankLogs) -> Cause:
    aborted = signum == signal.SIGABRT
    if aborted and (said := _NCCL_GAVE_UP.search(logs.end_of_rank(rank))):
        reason = f"rank {rank} lost another process: NCCL gave up ({said[1].lower()})"
        return Cause(StepExit.TRANSIENT, reason, rank, peer_lost=True)
    return Cause(128 + signum, _signal_reason(f"rank {rank}", signum), rank)


def _without_ranks(code: int, logs: RankLogs) -> Cause:
    """Return why the step's process failed though no rank did: torchrun itself, or a signal."""
    said = logs.own_text()
    if _OTHERS_ABSENT.search(said):
        reason = "the other nodes did not come: rendezvous timed out"
        return Cause(StepExit.TRANSIENT, reason, peer_lost=True)
    if _OTHERS_LOST.search(said):
        reason = "the node that keeps the rendezvous is gone or cannot be reached"
        return Cause(StepExit.TRANSIENT, reason, peer_lost=True)
    if code > 128 and code != StepExit.TRANSIENT:
        return Cause(code, _signal_reason("the step", code - 128))
    return Cause(code, _no_record("the step", code, logs))


def _no_record(what: str, code: int, logs: RankLogs) -> str:
    last = f"; last line: {logs.last_line[:300]}" if logs.last_line else ""
    return f"{what} ended with exit code {code} and left no record{last}"


def _signal_reason(what: str, signum: int) -> str:
    try:
        name = signal.Signals(signum).name
    except ValueError:
        name = f"signal {signum}"
    cause = ", perhaps for want of memory" if signum == signal.SIGKILL else ""
    return f"{what} was killed by {name}{cause}"


def exits_by_themselves(report: str) -> dict[int, int]:
    """Return rank and code of the ranks that failed before torchrun stopped the others.

    A code is -n for signal n, since codes above 128 may be a step's own. Read from torchrun's own
    words: it exits with 1 whatever its ranks' codes were, and its times cannot tell which one was
    first.
    """
    stopped = {match[1] for match in _TORCHRUN_STOPS.finditer(report)}
    exits: dict[int, int] = {}
    rank = 0
    for line in report.splitlines():
        if match := _TORCHRUN_RANK.search(line):
            rank = int(match[1])
        elif (match := _TORCHRUN_EXIT.search(line)) and match[2] not in stopped:
            exits[rank] = int(match[1])
    return exits


@dataclass(frozen=True)
class Record(Cause):
    """What a failed rank left."""

    time: float = 0.0
    """Seconds since 1970."""


def records(failures: Path) -> list[Record]:
    """Return the records of the ranks that failed; half-written ones are no records."""
    found = []
    for path in failures.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            data = json.loads(path.read_bytes())
            found.append(
                Record(
                    code=int(data["code"]),
                    reason=str(data["reason"]),
                    rank=int(data["rank"]),
                    peer_lost=bool(data.get("peer_lost", False)),
                    time=float(data["time"]),
                )
            )
    return found
