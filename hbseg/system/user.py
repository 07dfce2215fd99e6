"""Who works here."""

from __future__ import annotations


def current_user() -> str:
    """Return the user's name, or `unknown` where the system knows none."""
    import getpass  # with termios, which no other command needs

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
