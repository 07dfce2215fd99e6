"""Lines of the ranks' logs: of the files here, or of the copies in storage."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from hbseg.attempts import latest_attempt, log_folder, step_of
from hbseg.errors import NotFoundError
from hbseg.runs import Run
from hbseg.store import Store


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
    several = sum(name.isdigit() for name in texts) > 1
    named = (
        [marked(line, name) if several else line for line in text.splitlines()]
        for name, text in texts.items()
    )
    yield from heapq.merge(*named, key=lambda line: line.partition(" ")[0])


def marked(line: str, name: str) -> str:
    """Return a log line with the name of its rank behind the time."""
    stamp, _, text = line.partition(" ")
    return f"{stamp} [{name}] {text}"


def new_lines(path: Path, offsets: dict[Path, int]) -> Iterator[str]:
    """Yield the whole lines that came since the last look; `offsets` remembers where it ended."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offsets.get(path, 0))
        data = file.read()
        whole = data.rfind(b"\n") + 1
        offsets[path] = offsets.get(path, 0) + whole
        yield from data[:whole].decode(errors="replace").splitlines()


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
