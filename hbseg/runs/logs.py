"""Lines of the ranks' logs: of the files here, or of the copies in storage."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from hbseg.errors import NotFoundError
from hbseg.runs.attempts import latest_attempt, log_folder
from hbseg.runs.run import Run
from hbseg.runs.steps import step_of
from hbseg.storage.store import Store


def attempts_here(job: Path) -> list[int]:
    """Return the numbers of the attempts whose logs are here, ascending."""
    with suppress(OSError):
        return sorted(int(path.name) for path in (job / "logs").iterdir() if path.name.isdigit())
    return []


def log_files(folder: Path, rank: int | None) -> dict[str, Path]:
    """Return name and path of the wanted logs: a rank's, or all, torchrun's own last."""
    found = {path.stem: path for path in folder.glob("*.log")}
    return {name: found[name] for name in _wanted(found, rank)}


def _wanted(names: Mapping[str, object], rank: int | None) -> list[str]:
    ranks = sorted((name for name in names if name.isdigit()), key=int)
    if rank is not None:
        return [name for name in ranks if int(name) == rank]
    return [*ranks, *sorted(set(names) - set(ranks))]


def merged(texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of several logs, name: text, in the order of their times."""
    yield from merged_lines({name: lines_of(text) for name, text in texts.items()})


def merged_lines(logs: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield the lines of several logs, name: lines, in the order of their times."""
    several = sum(name.isdigit() for name in logs) > 1
    named = (_named(lines, name) if several else lines for name, lines in logs.items())
    yield from heapq.merge(*named, key=lambda line: line.partition(" ")[0])


def _named(lines: Iterable[str], name: str) -> Iterator[str]:
    for line in lines:
        yield marked(line, name)


def lines_of(text: str) -> list[str]:
    """Return a log's lines: only a line feed ends one, what else a step prints is part of it."""
    return text.removesuffix("\n").split("\n") if text else []


def lines_of_file(path: Path) -> Iterator[str]:
    """Yield a log's lines one by one, so that a huge log takes no memory."""
    with path.open("rb") as file:
        for line in file:
            yield line.removesuffix(b"\n").decode(errors="replace")


def marked(line: str, name: str) -> str:
    """Return a log line with the name of its rank behind the time."""
    stamp, _, text = line.partition(" ")
    return f"{stamp} [{name}] {text}"


def new_lines(path: Path, offsets: dict[Path, int]) -> Iterator[str]:
    """Yield the whole lines that came since the last look; `offsets` remembers where it ended."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size  # what comes meanwhile waits until others had a turn
        file.seek(offsets.get(path, 0))
        while offsets.get(path, 0) < end and (line := file.readline()).endswith(b"\n"):
            offsets[path] = offsets.get(path, 0) + len(line)
            yield line[:-1].decode(errors="replace")


def stored_logs(run: Run, task_name: str, rank: int | None) -> Iterator[str]:
    """Yield the lines of a task's latest attempt from storage. Raises NotFoundError."""
    yield from merged(stored_texts(run, task_name, rank))


def stored_texts(run: Run, task_name: str, rank: int | None) -> dict[str, str]:
    """Return name and text of the latest attempt's logs in storage: a rank's, or all.

    Raises:
        NotFoundError: there are none.
    """
    try:
        step = step_of(task_name)
    except ValueError:
        raise NotFoundError(f"no task {task_name}", "see: hbseg status RUN") from None
    number = latest_attempt(run, step, task_name)
    folder: Store | None = run.folder.folder(log_folder(step, number)) if number else None
    keys = [] if folder is None else [entry.key for entry in folder.list()]
    names = {key.removesuffix(".log"): key for key in keys if key.endswith(".log")}
    wanted = _wanted(names, rank)
    if folder is None or not wanted:
        raise NotFoundError(
            f"no logs of {task_name} in run {run.name}", f"see: hbseg status {run.name}"
        )
    return {name: folder.get(names[name]).decode(errors="replace") for name in wanted}
