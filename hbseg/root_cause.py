"""Why an attempt failed: the rank that failed first, and the code that says what may follow."""

from __future__ import annotations

import json
import re
import signal
from contextlib import suppress
from pathlib import Path

from hbseg.attempts import Ending, now
from hbseg.errors import UnreachableError
from hbseg.rank_logs import RankLogs

CANCELLED = 128 + signal.SIGTERM
KILLED = 128 + signal.SIGKILL
PERMANENT = frozenset({65, 66, 70, 76, 78})
"""Codes with which a step says that trying again does not help."""

_TORCHRUN_STOPS = re.compile(r"Sending process (\d+) closing signal")
_TORCHRUN_RANK = re.compile(r"rank +: (\d+) \(local_rank")
_TORCHRUN_EXIT = re.compile(r"exitcode +: (-?\d+) \(pid: (\d+)\)")


def ended(code: int, reason: str, attempt: int = 0) -> Ending:
    """Return how an attempt ended, as of now."""
    return Ending(code=code, reason=reason, attempt=attempt, finished=now())


def explained(code: int, logs: RankLogs, failures: Path, number: int, *, stopped: bool) -> Ending:
    """Return how the attempt ended: the root cause, where its code is not 0."""
    if code == 0:
        return ended(0, "", number)
    if stopped:
        return ended(CANCELLED, "cancelled by SIGTERM", number)
    exits = exits_by_themselves(logs.own_text())
    # A rank that a signal ended leaves no record, and its peers fail only because it is gone.
    for rank, rank_code in exits.items():
        if rank_code < 0:
            return ended(128 - rank_code, _signal_reason(f"rank {rank}", -rank_code), number)
    record = earliest_record(failures)
    if record is not None:
        return ended(*record, number)
    for rank, rank_code in exits.items():
        return ended(rank_code, _no_record(f"rank {rank}", rank_code, logs), number)
    if code > 128 and code != UnreachableError.step_exit_code:
        return ended(code, _signal_reason("the step", code - 128), number)
    return ended(code, _no_record("the step", code, logs), number)


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


def earliest_record(failures: Path) -> tuple[int, str] | None:
    """Return code and reason of the rank that failed first.

    Ranks that torchrun stopped because another one failed say 143; theirs is no cause.
    """
    records = []
    for path in failures.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(path.read_bytes())
            code, reason = int(record["code"]), str(record["reason"])
            records.append((code == CANCELLED, float(record["time"]), code, reason))
    if not records or min(records)[0]:
        return None
    _, _, code, reason = min(records)
    return code, reason
