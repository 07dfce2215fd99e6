"""What looks like a secret, and so has no place in a manifest.

A variable is judged by the words of its name (`WANDB_API_KEY`, `hfToken`) together with its value:
a path, a switch or a number is no secret, whatever the name. A value that has the form of a
well-known key is one, whatever the name. Both are rules of thumb: a password under a name without a
hint is not found.
"""

from __future__ import annotations

import re
from typing import Final

# Patterns are texts: `re` compiles one when it is first used, and most commands use none.
_WORD: Final = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+"
_KEYS: Final = "(api|access|auth|private|secret|ssh|signing|encryption)?keys?"
_PASSWORD: Final = r"(?i).*(password|passwd|passphrase)|pwd"  # noqa: S105 - a pattern
_ANYWHERE: Final = r"(?i).*(secret|password|passwd|passphrase|credential).*|.*tokens?"
"""Words that tell a secret wherever they stand: `SECRET_VALUE`, `PGPASSWORD`, `AUTHTOKEN_2`."""
_LAST: Final = rf"(?i){_KEYS}|pass|pat|pwd|auth|creds?|jwt"
"""Words that do so as the last one: `WANDB_API_KEY`, and not `KEY_PREFIX`."""
_PARTS: Final = ("key", "secret", "pass", "pat", "pwd", "auth", "cred", "jwt", "token")
"""One of them is in each such name; to look for them costs less than to compile the patterns."""
_ABOUT: Final = frozenset(("file", "path", "dir", "url", "uri", "name"))
"""Last words of a name that tells where a secret is, and not what it is."""
_ALWAYS: Final = frozenset(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
"""Secrets whatever their value: an AWS key may look like a path."""

_SWITCH: Final = r"(?i)|0|1|true|false|yes|no|on|off|none|null"
_NUMBER: Final = r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?"
_PATH: Final = r"(file://|s3:/|~|\.{1,2})?(/[\w.@:-]+)+/?"
_FORMS: Final = r"""
    \b(AKIA|ASIA)[A-Z0-9]{16}\b                  # AWS
    | \bgh[opsur]_[A-Za-z0-9]{36}                # GitHub
    | \bgithub_pat_[A-Za-z0-9_]{22}
    | \bglpat-[\w-]{20}                          # GitLab
    | \bhf_[A-Za-z0-9]{30}                       # Hugging Face
    | \bsk-(\w+-){0,3}\w{16} | \bsk_live_\w{16}  # OpenAI and others; Stripe
    | \bxox[abprs]-[\w-]{10}                     # Slack
    | \bAIza[\w-]{35}                            # Google
    | \beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.             # a JSON web token
    | ://[^/\s:@]*:[^/\s@]+@                     # a URL with a password
    | \bhttps?://[^/\s@]+@                       # or with a token as its user
    | -----BEGIN                                 # PEM
    """
"""Forms of well-known keys, as a verbose pattern."""
_MARKS: Final = (
    "AKIA",
    "ASIA",
    "gh",
    "github_",
    "glpat-",
    "hf_",
    "sk",
    "xox",
    "AIza",
    "eyJ",
    "@",
    "-----",
)
"""One of them is in each such value; to look for them costs less than to compile the pattern."""


def is_secret(name: str, value: str) -> bool:
    """Return whether a variable of this name and value is likely to hold a secret."""
    return _has_form_of_key(value) or (_is_name_of_secret(name) and not _is_plain(name, value))


def _has_form_of_key(value: str) -> bool:
    is_likely = any(mark in value for mark in _MARKS)
    return is_likely and re.search(_FORMS, value, re.X) is not None


def _is_name_of_secret(name: str) -> bool:
    if name in _ALWAYS:
        return True
    if not any(part in name.lower() for part in _PARTS):
        return False
    words = _words(name)
    if not words or words[-1].lower() in _ABOUT:
        return False
    is_last = re.fullmatch(_LAST, words[-1]) is not None
    return is_last or any(re.fullmatch(_ANYWHERE, word) for word in words)


def _is_plain(name: str, value: str) -> bool:
    """Return whether a value is no secret although the name is one's."""
    if name in _ALWAYS:
        return False
    if re.fullmatch(_NUMBER, value) and not re.fullmatch(_SWITCH, value):
        return re.fullmatch(_PASSWORD, _words(name)[-1]) is None  # a password may be a number
    return any(re.fullmatch(form, value) for form in (_SWITCH, _PATH))


def _words(name: str) -> list[str]:
    """Return the words of a name, split at `_` and at a change of case, without numbers at its end.

    There may be none.
    """
    words = re.findall(_WORD, name)
    while words and words[-1].isdecimal():
        words.pop()
    return words
