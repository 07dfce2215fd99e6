"""Which of a step's nodes this process is on, as a pod's environment says."""

from __future__ import annotations

import os

from hbseg.errors import UsageError


def node_index() -> int:
    """Return the number of this node, from 0 (`HBSEG_NODE`, by default 0).

    Raises:
        UsageError: the variable is no number.
    """
    return _number("HBSEG_NODE", default=0, expected="the number of this node from 0")


def node_count() -> int:
    """Return how many nodes share the step (`HBSEG_NODES`, by default 1).

    Raises:
        UsageError: the variable is no number.
    """
    return _number("HBSEG_NODES", default=1, expected="the number of nodes")


def _number(name: str, *, default: int, expected: str) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isdecimal() and text.isascii()):
        raise UsageError(f"{name} is {text!r:.40}, expected {expected}")
    return int(text)
