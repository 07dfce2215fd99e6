"""Names of jobs."""

from __future__ import annotations

import re
from typing import Final

from hbseg.cluster.kinds import kinds_of_task
from hbseg.runs.steps import SHORT

KEY_DIGITS: Final = 6
"""Digits of an engine's or a measurement's key in a name."""

_KEY: Final = re.compile(rf"[0-9a-f]{{{SHORT}}}")
_WORDS: Final = {"engine": "compile"}
"""First part of a task's folder: word in a name, where it is another one."""


def job_name(run: str, prefix: str) -> str:
    """Return the name of the job that makes a run's folder `prefix`.

    `stage1` of the run `main` is `main-stage1`, `engine/0a1b2c3d4e5f` is `main-compile-0a1b2c`. It
    fits every kind that the job may be: where a run's name leaves less room, a key has one digit
    less.
    """
    head, _, key = prefix.partition("/")
    key = key[:KEY_DIGITS] if _KEY.fullmatch(key) else key.replace("/", "-")
    words = (run, _WORDS.get(head, head), key)
    longest = min(kind.longest_name for kind in kinds_of_task(head))
    return "-".join(word for word in words if word)[:longest].rstrip("-")
