"""The termination message of a pod: how it ended, for whoever looks at the cluster."""

from __future__ import annotations

import bisect
import os
from contextlib import suppress
from pathlib import Path

from hbseg.runs.attempts import AttemptResult

MAX_MESSAGE = 4096
"""Bytes of a termination message, a limit of Kubernetes."""


def write_termination_message(result: AttemptResult) -> None:
    """Leave the result in the file that HBSEG_TERMINATION_LOG names, if it names one."""
    path = os.environ.get("HBSEG_TERMINATION_LOG")
    if path:
        with suppress(OSError):
            Path(path).write_bytes(termination_message(result))


def termination_message(result: AttemptResult) -> bytes:
    """Return the result as JSON of at most 4096 bytes; a long reason is cut."""
    message = result.to_json()
    if len(message) <= MAX_MESSAGE:
        return message

    def cut(length: int) -> bytes:
        return result.model_copy(update={"reason": f"{result.reason[:length]}..."}).to_json()

    lengths = range(len(result.reason))
    fitting = bisect.bisect_right(lengths, MAX_MESSAGE, key=lambda length: len(cut(length)))
    return cut(fitting - 1)
