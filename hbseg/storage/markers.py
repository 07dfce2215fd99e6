"""The marker `_SUCCESS`: the last object that a step writes.

It lists the outputs with their sha256, and carries the digests of the markers that the step read:
a Merkle chain, in which a change at one step makes every later step stale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from hbseg import __version__
from hbseg.documents import Document, canonical_digest
from hbseg.errors import ContractError, SpecError
from hbseg.storage.store import Store
from hbseg.system.clock import now

MARKER = "_SUCCESS"


class Marker(Document):
    """What a finished step says of itself."""

    kind: Literal["Marker"] = "Marker"
    step: str
    spec_hash: str
    """Digest of the spec."""
    inputs: dict[str, str] = {}
    """Name of each input: digest of its marker."""
    outputs: dict[str, str] = {}
    """Key of each output, relative to the marker's folder: its sha256."""
    records: dict[str, str] = {}
    """As `outputs`, for what tells of this execution (times, logs): not part of the digest."""
    metrics: dict[str, float] = {}
    """Figures of this execution."""
    code_version: str = __version__
    finished: str
    """End of the step, ISO 8601, UTC."""

    @property
    def digest(self) -> str:  # type: ignore[override]
        """Digest of what decides later results: step, spec, inputs and outputs."""
        return canonical_digest(
            [self.step, self.spec_hash, sorted(self.inputs.items()), sorted(self.outputs.items())]
        )


def read_marker(folder: Store) -> Marker:
    """Return the marker of a finished step.

    Raises:
        NotFoundError: there is none.
        ContractError: it cannot be read.
        VersionError: a newer hbseg wrote it.
    """
    data = folder.get(MARKER)
    try:
        return Marker.from_text(data, source=f"{folder.url}/{MARKER}")
    except SpecError as error:
        raise ContractError(f"unreadable marker: {error}", "run the step again") from None


def write_marker(
    folder: Store,
    *,
    step: str,
    spec_hash: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    records: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Marker:
    """Write the marker of a step whose outputs are all in storage, and return it."""
    marker = Marker(
        step=step,
        spec_hash=spec_hash,
        inputs=dict(inputs),
        outputs=dict(outputs),
        records=dict(records or {}),
        metrics=dict(metrics or {}),
        finished=now(),
    )
    folder.put(MARKER, marker.to_json())
    return marker


def sha256_of(data: bytes) -> str:
    """Return the sha256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the sha256 (hex) of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified(data: bytes, expected: str, *, source: str) -> bytes:
    """Return `data` if its sha256 is `expected`.

    Raises:
        ContractError: it is not.
    """
    found = sha256_of(data)
    if found != expected:
        raise ContractError(
            f"{source} is damaged: sha256 is {found[:12]}..., its marker says {expected[:12]}...",
            "run the step that wrote it again",
        )
    return data


def check_outputs(folder: Store, marker: Marker, keys: Iterable[str]) -> None:
    """Refuse a marker that does not list all of `keys` as outputs.

    Raises:
        ContractError: one is missing.
    """
    missing = sorted(set(keys) - marker.outputs.keys())
    if missing:
        raise ContractError(
            f"{folder.url}/{MARKER} lists no {missing[0]}", "run the step that wrote it again"
        )
