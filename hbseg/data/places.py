"""Where the versions of a dataset are, in its folder. Every command loads this, so it is small."""

from __future__ import annotations

import re

from hbseg.errors import InvalidInput
from hbseg.storage.store import Store


def version_key(version: str) -> str:
    """Return the path of a version's folder in the dataset's."""
    return f"versions/{version}"


def version_folder(data: Store, version: str) -> Store:
    """Return the folder of a version.

    Raises:
        InvalidInput: `version` is not 16 hexadecimal digits.
    """
    if re.fullmatch(r"[0-9a-f]{16}", version) is None:
        raise InvalidInput(f"dataset version {version!r:.60}, expected 16 hexadecimal digits")
    return data.folder(version_key(version))
