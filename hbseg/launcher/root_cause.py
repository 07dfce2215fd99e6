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
from hbseg.runs.torchrun_report import TorchrunReport
from hbseg.system.clock import now

# NCCL's watchdog ends the process by SIGABRT: its reason is nowhere but in the rank's log.
_NCCL_GAVE_UP = re.compile(r"ProcessGroupNCCL.*(watchdog|timeout|ncclRemoteError)", re.IGNORECASE)
_NODES_MISSED = {
    "absent": "the other nodes did not come: rendezvous timed out",
    "lost": "the node that keeps the rendezvous is gone or cannot be reached",
}


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
    code: int,
    logs: RankLogs,
    report: TorchrunReport,
    failures: Path,
    number: int,
    *,
    stopped: bool,
) -> AttemptResult:
    """Return how the attempt ended: the root cause, where its code is not 0.

    Args:
        code: of the step's process; torchrun's is 1 whatever its ranks' codes were.
        logs: of the ranks.
        report: torchrun's; an empty one where it left none, or did not start the step.
        failures: folder with the records of failed ranks.
        number: of the attempt.
        stopped: whether SIGTERM of the launcher ended the step.
    """
    if code == 0:
        return ended(0, "", number)
    if stopped:
        return ended(StepExit.TERMINATED, "cancelled by SIGTERM", number)
    return _cause(code, logs, report, failures).result(number)


def _cause(code: int, logs: RankLogs, report: TorchrunReport, failures: Path) -> Cause:
    exits = {one.rank: one.exit_code for one in report.exits if not one.stopped}
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
    return _without_ranks(code, logs, report)


def _order(record: Record) -> tuple[bool, bool, float]:
    return record.code == StepExit.TERMINATED, record.peer_lost, record.time


def _killed_rank(rank: int, signum: int, logs: RankLogs) -> Cause:
    aborted = signum == signal.SIGABRT
    if aborted and (said := _NCCL_GAVE_UP.search(logs.end_of_rank(rank))):
        reason = f"rank {rank} lost another process: NCCL gave up ({said[1].lower()})"
        return Cause(StepExit.TRANSIENT, reason, rank, peer_lost=True)
    return Cause(128 + signum, _signal_reason(f"rank {rank}", signum), rank)


def _without_ranks(code: int, logs: RankLogs, report: TorchrunReport) -> Cause:
    """Return why the step's process failed though no rank did: torchrun itself, or a signal."""
    if report.nodes is not None:
        return Cause(StepExit.TRANSIENT, _NODES_MISSED[report.nodes], peer_lost=True)
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
    cause = ", perhaps out of memory" if signum == signal.SIGKILL else ""
    return f"{what} was killed by {name}{cause}"


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
