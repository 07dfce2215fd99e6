"""What commands return, and the one place that prints it.

Only what a machine may read goes to stdout; progress, hints and errors go to stderr. Nothing heavy
is imported here: `hbseg --help` loads this module.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import bidirectional, category

if TYPE_CHECKING:
    from collections.abc import Callable

API_VERSION = "hbseg/v1"
_TURNING = frozenset({"LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Unicode's classes of characters that turn the direction of the text behind them."""


class Format(StrEnum):
    """Forms of a command's result."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class Result(NamedTuple):
    """What a command returns."""

    document: Mapping[str, Any]
    """For JSON and YAML, with `apiVersion` and `kind`."""
    rows: Sequence[Mapping[str, object]] = ()
    """For the table; the keys of the first row are the headings."""
    names: Sequence[str] = ()
    """For the form `name`, one a line."""
    format: Format = Format.TABLE
    exit_code: int = 0
    stream: Sequence[Mapping[str, Any]] = ()
    """For YAML: documents one after the other, instead of `document`."""


class Verbosity:
    """How much is told on stderr: -1 errors only, 0 as usual, 1 more."""

    level: int = 0


verbosity = Verbosity()


def document(kind: str, **content: Any) -> dict[str, Any]:
    """Return a document of our format."""
    return {"apiVersion": API_VERSION, "kind": kind, **content}


def render(result: Result) -> str:
    """Return the result's text in its form, with a final line end unless it is empty."""
    match result.format:
        case Format.JSON:
            import json

            text = json.dumps(result.document, indent=2, ensure_ascii=False, allow_nan=False)
        case Format.YAML:
            from hbseg.documents import dump_yaml

            documents = result.stream or (result.document,)
            return "---\n".join(dump_yaml(item) for item in documents)
        case Format.NAME:
            text = "\n".join(result.names)
        case Format.TABLE:
            text = table(result.rows)
    return f"{text}\n" if text else ""


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows in aligned columns under headings in capitals."""
    if not rows:
        return ""
    names = list(rows[0])
    cells = [[name.upper() for name in names]]
    cells += [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    return (
        f"{value:.4f}" if isinstance(value, float) else printable(" ".join(str(value).split("\n")))
    )


def printable(text: str) -> str:
    """Return text for a terminal: what would move its cursor or colour it is written out.

    Names, reasons and log lines come from storage and the cluster, where others write too.
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if _steers(character) else character
        for character in text
    )


def _steers(character: str) -> bool:
    """Return whether a character steers a terminal; tabs and line ends do no harm."""
    controls = category(character) == "Cc" and character not in "\t\n"
    return controls or (category(character) == "Cf" and bidirectional(character) in _TURNING)


def write(text: str) -> None:
    """Write a result to stdout, in UTF-8 whatever the locale is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())
    sys.stdout.flush()


def say(text: str, *, level: int = 0) -> None:
    """Tell a person something, on stderr."""
    if verbosity.level >= level:
        data = f"{printable(text)}\n".encode(sys.stderr.encoding or "utf-8", "backslashreplace")
        sys.stderr.buffer.write(data)
        sys.stderr.flush()


def error_document(code: int, message: str, hint: str | None) -> str:
    """Return the JSON of an error."""
    import json

    content = document("Error", code=code, message=message, hint=hint)
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function to call with what is done, how much of it and of how much.

    Draws bars where stderr is a terminal, and nothing elsewhere.
    """
    if verbosity.level < 0 or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
