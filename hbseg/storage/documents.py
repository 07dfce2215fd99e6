"""Documents in storage that several writers change: compare-and-swap."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeVar

from hbseg.documents import Document
from hbseg.errors import BucketMissing, ConflictError, NotFoundError
from hbseg.storage.store import Store

Doc = TypeVar("Doc", bound=Document)


def update(
    folder: Store,
    key: str,
    kind: type[Doc],
    change: Callable[[Doc], Doc],
    *,
    initial: Doc | None = None,
    tries: int | None = None,
) -> Doc:
    """Return the document under `key` after `change`, as it is in storage now.

    `change` is called again with the newer document whenever another writer came first, so no
    writer's change is lost. Nothing is written where it returns an equal document. Where there is
    no document, `initial` is written as it is. Without a limit on `tries` one writer of several
    always succeeds, so the others do in the end.

    Raises:
        NotFoundError: there is no document, and no `initial`.
        SpecError: the document is not a valid `kind`.
        VersionError: a newer hbseg wrote it.
        ConflictError: others changed the document at each of `tries` tries.
    """
    source = f"{folder.url}/{key}"
    for _ in count() if tries is None else range(tries):
        try:
            data, tag = folder.get_tagged(key)
        except BucketMissing:
            raise
        except NotFoundError:
            if initial is None:
                raise
            if folder.put_if_absent(key, initial.to_json()):
                return initial
            continue
        old = kind.from_text(data, source=source)
        new = change(old)
        if new == old or folder.put_if_match(key, new.to_json(), tag):
            return new
    raise ConflictError(f"{source} was changed by others at each of {tries} tries", "try again")
