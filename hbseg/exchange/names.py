"""Names of images as names of files: they come from data and must stay in their folder."""

from __future__ import annotations

from typing import Final

from hbseg.errors import InvalidInput
from hbseg.storage.store import checked_key

MAX_NAME: Final = 200
"""Most bytes of an image's name, so that a file may be called after it with a longer ending."""


def checked_name(name: str) -> str:
    """Return an image's name if a file can be called so.

    Raises:
        InvalidInput: it is empty, has a folder, a control character or more than 200 bytes.
    """
    hint = "rename the image"
    if "/" in name or len(name.encode(errors="replace")) > MAX_NAME:
        raise InvalidInput(f"image name {name[:80]!r} cannot be a file's name", hint)
    try:
        return checked_key(name)
    except InvalidInput:
        raise InvalidInput(f"image name {name[:80]!r} cannot be a file's name", hint) from None
