"""A raw set in storage, brought to a local disk: only files of the raw layout, each once.

Beside the files lies `fetched.jsonl`, one line a file with the size and tag that it had in
storage: an interrupted fetch resumes, and what changed in storage is fetched again.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hbseg.data.raw import PICTURE_SUFFIXES
from hbseg.data.workers import Progress
from hbseg.errors import DiskFullError, NotFoundError
from hbseg.storage.store import Entry, Store, checked_key

THREADS: Final = 16
"""Files on their way at a time; each is written in pieces, so memory does not grow with them."""
JOURNAL: Final = "fetched.jsonl"

_FOLDERS: Final = ("test/DCM/", "train/DCM/", "train/outputs_json/")
_PICTURE: Final = re.compile(r"(train|test)/DCM/[^./][^/]*/[^./][^/]*\.[A-Za-z]+")
_ANNOTATION: Final = re.compile(r"train/outputs_json/[^./][^/]*/[^./][^/]*\.json", re.IGNORECASE)


@dataclass(frozen=True)
class Fetched:
    """What `fetch` did."""

    files: int
    """Files of the set."""
    bytes: int
    kept: int
    """Files that were here already."""


def fetch(
    source: Store, folder: Path, *, threads: int = THREADS, progress: Progress | None = None
) -> Fetched:
    """Make `folder` a copy of the raw set in `source`, and return how much it is.

    Files outside the raw layout are not fetched; local ones that the set does not have are
    removed. Hidden files and folders do not count.

    Raises:
        NotFoundError: there is no bucket, or nothing of the raw layout in it.
        InvalidInput: a name in it is not valid for a file.
        DiskFullError: the disk has less room than the set needs.
        DeniedError, UnreachableError: storage does not give it.
    """
    entries = {entry.key: entry for entry in _raw_entries(source)}
    if not entries:
        raise NotFoundError(
            f"no raw set in {source.url}",
            "expected train/DCM/<person>/<picture>.png or test/DCM/<person>/<picture>.png there",
        )
    folder.mkdir(parents=True, exist_ok=True)
    kept = _kept(folder, entries)
    _tidy(folder, [entries[key] for key in kept])
    missing = [entries[key] for key in sorted(entries.keys() - set(kept))]
    _check_room(folder, source, missing)
    done = len(kept)
    for _ in _downloaded(source, folder, missing, threads):
        done += 1
        if progress is not None:
            progress("fetch", done, len(entries))
    return Fetched(len(entries), sum(entry.size for entry in entries.values()), len(kept))


def _raw_entries(source: Store) -> Iterator[Entry]:
    for folder in _FOLDERS:
        for entry in source.list(folder):
            if is_raw(entry.key):
                checked_key(entry.key)
                yield entry


def is_raw(key: str) -> bool:
    """Return whether a key is that of a picture or an annotation in the raw layout."""
    picture = _PICTURE.fullmatch(key) is not None and key.lower().endswith(PICTURE_SUFFIXES)
    return picture or _ANNOTATION.fullmatch(key) is not None


def _kept(folder: Path, entries: dict[str, Entry]) -> list[str]:
    """Return the keys whose file is here as storage has it."""
    fetched: dict[str, tuple[int, str]] = {}
    path = folder / JOURNAL
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            key, size, tag = json.loads(line)
        except (ValueError, TypeError):
            continue  # the last line of a fetch that was cut
        fetched[key] = (size, tag)
    return [
        key
        for key, entry in entries.items()
        if entry.tag
        and fetched.get(key) == (entry.size, entry.tag)
        and (folder / key).is_file()
        and (folder / key).stat().st_size == entry.size
    ]


def _tidy(folder: Path, kept: list[Entry]) -> None:
    """Leave only the files that are as in storage: none that is gone there, no cut download."""
    names = {entry.key for entry in kept}
    for path in (path for path in folder.rglob("*") if not path.is_dir()):
        if str(path.relative_to(folder)) not in names:
            path.unlink()
    (folder / JOURNAL).write_text("".join(f"{_line(entry)}\n" for entry in kept), encoding="utf-8")


def _check_room(folder: Path, source: Store, missing: list[Entry]) -> None:
    needed, free = sum(entry.size for entry in missing), shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFullError(
            f"{source.url} needs {needed:,} bytes more, and {folder} has {free:,} free",
            "give the step a larger disk (scratch, in a cluster's profile)",
        )


def _downloaded(
    source: Store, folder: Path, entries: list[Entry], threads: int
) -> Iterator[Future[None]]:
    """Download the entries, and yield for each that is here and in the journal."""
    lock = threading.Lock()
    with (folder / JOURNAL).open("a", encoding="utf-8") as journal:

        def download(entry: Entry) -> None:
            source.download(entry.key, folder / entry.key)
            with lock:
                print(_line(entry), file=journal, flush=True)

        pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
        try:
            for future in as_completed([pool.submit(download, entry) for entry in entries]):
                future.result()
                yield future
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _line(entry: Entry) -> str:
    return json.dumps([entry.key, entry.size, entry.tag])
