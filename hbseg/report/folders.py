"""A finished step's folder: what its marker lists is checked before a report shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from hbseg.documents import Document
from hbseg.errors import ContractError, NotFoundError, SpecError
from hbseg.storage.markers import Marker, sha256_of_file, verified
from hbseg.storage.store import Store

Kind = TypeVar("Kind", bound=Document)

SUBMISSION: Final = "submission.csv"


@dataclass(frozen=True)
class StepFolder:
    """A folder and its marker."""

    store: Store
    marker: Marker

    def read(self, key: str) -> bytes | None:
        """Return a file, checked where the marker lists it; None: neither listed nor there.

        Raises:
            NotFoundError: the marker lists it, and it is not there.
            ContractError: it is not the file that the marker lists.
        """
        expected = self.expected(key)
        try:
            found = self.store.get(key)
        except NotFoundError:
            if expected is None:
                return None
            raise
        return verified(found, expected, source=self.place(key)) if expected else found

    def document(self, key: str, kind: type[Kind]) -> Kind | None:
        """Return a document of the folder as `read` does. Raises ContractError: it is another."""
        text = self.read(key)
        try:
            return None if text is None else kind.from_text(text, source=self.place(key))
        except SpecError as error:
            raise ContractError(error.message, error.hint) from None

    @contextmanager
    def submission(self, work: Path) -> Iterator[Path]:
        """Return a context with the CSV as a local file in `work`. Raises as `read`."""
        path = work / SUBMISSION
        self.store.download(SUBMISSION, path)
        try:
            expected = self.expected(SUBMISSION)
            if expected is not None and sha256_of_file(path) != expected:
                raise ContractError(
                    f"{self.place(SUBMISSION)} is damaged", "run the step infer again"
                )
            yield path
        finally:
            path.unlink(missing_ok=True)

    def expected(self, key: str) -> str | None:
        """Return the sha256 that the marker lists."""
        return {**self.marker.records, **self.marker.outputs}.get(key)

    def place(self, key: str) -> str:
        """Return what errors call a file."""
        return f"{self.store.url}/{key}"
