"""Names of jobs."""

from __future__ import annotations

import re
from typing import Final

from hbseg.cluster.kinds import kinds_of_task
from hbseg.runs.steps import SHORT, is_step, maker_of

KEY_DIGITS: Final = 6
"""Digits of an engine's or a measurement's key in a name."""

_KEY: Final = re.compile(rf"[0-9a-f]{{{SHORT}}}")


def job_name(run: str, prefix: str) -> str:
    """Return the name of the job that makes a run's folder `prefix`.

    `stage1` of the run `main` is `main-stage1`, `engine/0a1b2c3d4e5f` is `main-compile-0a1b2c`. It
    fits every kind that the job may be: where a run's name leaves less room, a key has one digit
    less.
    """
    head, _, key = prefix.partition("/")
    key = key[:KEY_DIGITS] if _KEY.fullmatch(key) else key.replace("/", "-")
    words = (run, _word(head), key)
    longest = min(kind.longest_name for kind in kinds_of_task(head))
    return "-".join(word for word in words if word)[:longest].rstrip("-")


def _word(folder: str) -> str:
    """Return what a name has for a folder: its step, where the step makes no other folders."""
    if not is_step(folder):
        return folder
    step = maker_of(folder)
    return step.value if len(step.row.folders) == 1 else folder
