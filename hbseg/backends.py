"""The backends by name."""

from __future__ import annotations

from pathlib import Path

from hbseg.backend import Backend
from hbseg.errors import InvalidInput

BACKENDS = ("kubernetes", "local")


def open_backend(name: str, *, state: Path | None = None, tied: bool = False) -> Backend:
    """Return the backend called `name`; `state` and `tied` are the local one's.

    Raises:
        InvalidInput: this version has no such backend.
    """
    match name:
        case "local":
            from hbseg.local.backend import LocalBackend

            return LocalBackend(state, tied=tied)
        case "kubernetes":
            raise InvalidInput(
                "backend kubernetes is not in this version",
                "use --backend local or set HBSEG_BACKEND=local",
            )
        case _:
            raise InvalidInput(
                f"backend {name!r:.60} is not known", f"use one of {', '.join(BACKENDS)}"
            )
