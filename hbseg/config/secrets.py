"""What looks like a secret, and so has no place in a manifest."""

from __future__ import annotations

import re

_NAME = re.compile(
    r"(secret|password|passwd|token(?!izers)|credential|private_?key|access_?key)(?!.*_file$)", re.I
)
_VALUE = re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|://[^/\s:@]+:[^/\s@]+@|-----BEGIN")


def is_secret_name(name: str) -> bool:
    """Return whether a variable of this name is likely to hold a secret; no name of a file is."""
    return _NAME.search(name) is not None


def is_secret_value(value: str) -> bool:
    """Return whether a value is an AWS key, a URL with a password, or a PEM block."""
    return _VALUE.search(value) is not None
