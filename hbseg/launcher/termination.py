"""The termination message of a pod: how it ended, for whoever looks at the cluster."""

from __future__ import annotations

import bisect
import os
from contextlib import suppress
from pathlib import Path

from hbseg.runs.attempts import Ending

LONGEST_MESSAGE = 4096
"""Bytes of a termination message, a limit of Kubernetes."""


def write_termination_message(ending: Ending) -> None:
    """Leave the ending in the file that HBSEG_TERMINATION_LOG names, if it names one."""
    path = os.environ.get("HBSEG_TERMINATION_LOG")
    if path:
        with suppress(OSError):
            Path(path).write_bytes(termination_message(ending))


def termination_message(ending: Ending) -> bytes:
    """Return the ending as JSON of at most 4096 bytes; a long reason is cut."""
    message = ending.to_json()
    if len(message) <= LONGEST_MESSAGE:
        return message

    def cut(length: int) -> bytes:
        return ending.model_copy(update={"reason": f"{ending.reason[:length]}..."}).to_json()

    lengths = range(len(ending.reason))
    fitting = bisect.bisect_right(lengths, LONGEST_MESSAGE, key=lambda length: len(cut(length)))
    return cut(fitting - 1)
